"""Every limit of commissioning, with its unit and where it comes from.

Powers are shares of the smaller of the battery's two ratings in the site file; whatever the envelope leaves less of is
used less of.
"""

from __future__ import annotations

from agent.core.writes import FOLLOW_SHARE, FOLLOW_WITHIN_S

PROBE_SHARE = 0.05
"""Of the first movement: if a scale is wrong by ten, the battery gives half of its rating and not five times it."""
MOST_PROBE_SHARE = 0.08
"""The first movement where the load is restless: ten times this still is within the rating."""
WORK_SHARE = 0.2
"""Of all later movements: sign and scale are known by then."""
BEYOND_SHARE = FOLLOW_SHARE
"""A battery may be this far from where it was told to be (share of the rating), as in daily control."""
AT_REST_SHARE = 0.02
"""Within this share of the rating a battery is at rest: standby and the meter's own error."""
CONNECTION_SHARE = 0.05
"""The connection limit may be passed by this share of it for a reading or two: the meter's class and the lag."""
READINGS_AT_REST = 6
"""Fresh readings at rest before a movement, to know the noise."""
READINGS_STEADY = 6
"""Fresh readings by which a power is found to stand still."""
READINGS_TAIL = 4
"""The last of them, whose mean counts."""
REMAINING_SHARE = 0.015
"""Of the step: a power that has less than this to go, by the way it slows down, has arrived."""
STEADY_S = 2.0
"""And so long at least: of a slow device quick readings hardly differ."""
NOISE_SHARE = 0.001
"""Of the step: a smaller change of power is no movement any more, and the step of most power registers."""
NOISE_SIGMAS = 4.0
MOVED_SHARE = 0.04
"""Of the step: less than this is no movement; a setpoint or reading that is ten times too small still is one."""
NO_MOVE_S = 15.0
"""A battery that has not moved at all by then does not follow; waking up from standby takes some seconds."""
ARRIVE_WITHIN_S = 90.0
"""The longest that a movement is waited for: slow devices are to be measured, not guessed."""
HOME_WITHIN_S = 60.0
"""The same for the way back to rest; after it the dead-man is all there is (invariant 6: at most 60 s)."""
SETTLE_WITHIN_S = FOLLOW_WITHIN_S
"""A device that takes longer is slow: daily control raises `not_following` after it."""
SETTLED_SHARE = 0.05
"""Of the step: closer than this is settled."""
ACCURACY_SHARE = 0.02
"""Of the rating: the power that is given may be so far from the one that is asked for."""
BATTERY_RATIO = (0.9, 1.1)
"""Measured over asked, at the battery: what inverters state for their own measurement, with margin."""
METER_RATIO = (0.8, 1.25)
"""The same at the connection point, where the load moves as well."""
BLIND_RATIO = 0.03
"""Below this a device does not see the movement at all."""
TELL_WITHIN_S = 60.0
"""The SoC is watched so long to compare it with the energy."""
SIGN_TELL_WITHIN_S = 240.0
"""And so long to tell a reversed meter from a reversed battery: a battery of four hours moves by 0.3 % meanwhile, three
steps of registers that count tenths of a percent, as most do. It is over as soon as they are seen."""
SOC_STEPS = 4
"""Steps of the SoC register that are enough to compare it with the energy."""
SOC_MARGIN_PCT = 2.0
"""So far inside its window the SoC must be to begin: a test moves it by less than half of that."""
ENERGY_RATIO = (0.5, 2.0)
"""Change of the SoC over the change by energy and capacity; the SoC of a flat cell curve is coarse in a minute."""
DEAD_MAN_MOST_S = 60.0
"""Invariant 6 of the site: agent dead, device at rest within this."""
DEAD_MAN_SLACK_S = 3.0
DEAD_MAN_SLACK_SHARE = 0.1
"""Devices count whole seconds or minutes, and are read once a second."""
DEAD_MAN_WAIT_SHARE = 1.2
"""The fallback is waited for this many times the configured time, and a little."""
DEAD_MAN_WAIT_MORE_S = 5.0
FALLEN_SHARE = 0.1
"""Of the power held: when it has fallen by this, the dead-man has fired."""
LIMIT_SHARE = 0.1
"""The connection limit is tried so far (share of the rating) above what PV and load leave, with twice as much asked."""
LIMIT_SLACK_SHARE = 0.02
"""Of the rating, beside the noise of the meter."""
RATING_APART_SHARE = 0.05
"""More than this between nameplate and site file is worth a remark, as in `ems devices check`..."""
RATING_STRANGE = (0.5, 2.0)
"""...and outside of this it is another device, or a wrong scale."""
CLOUD_WITHIN_S = 30.0
"""What was sent must be confirmed within this: twice the reconnect time of a healthy link."""
RESPONSE_SLACK_S = 1.0
"""Beside the product's time to full response: one poll of the battery."""
RESPONSE_SHARE = 0.9
"""Of the award: from there on the response is given, as markets time it."""
LEASE_S = 10.0
"""The command that leads a commissioning is heard this often, or it is over: the line to the technician broke."""
WAIT_MOST_S = 1_800.0
"""An operator who does not answer a question holds the site up for half an hour at most."""
AWARD_AHEAD_S = 1_800.0
"""Sold reserve that begins within this keeps commissioning from starting."""
SERIES_ROWS = 240
"""Rows kept of a step for its chart."""
