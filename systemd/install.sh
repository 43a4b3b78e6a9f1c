#!/bin/sh
# Installs the agent on a gateway with Debian 12 or 13, from the bundle that this file lies in and without internet.
set -eu
umask 022 # the agent is not root, and must read what is installed

ROOT=/opt/ems-agent
ETC=/etc/ems-agent
UNITS=/usr/local/lib/systemd/system
BASH_COMPLETION=/usr/local/share/bash-completion/completions/ems
ZSH_COMPLETION=/usr/local/share/zsh/site-functions/_ems
BUNDLE=$(cd "$(dirname "$0")/.." && pwd)

usage() {
	cat <<-END
	sh systemd/install.sh [--site FILE | --simulator] [--key FILE | --unsigned]
	    --site FILE   use this site file and start the agent; one that is installed already stays as it is
	    --simulator   install a simulated site beside the agent, for a first try without devices
	    --key FILE    the public key (PEM) that must have signed this bundle; later updates are held to it
	    --unsigned    take a bundle that nobody signed
	Run it as root; it may be run again at any time. For a newer version: ems update BUNDLE.tar
	END
}

say() { echo "install: $*"; }
fail() { # WHAT NEXT
	echo "install: $1" >&2
	echo "         next: $2" >&2
	exit 1
}

site='' simulator='' key='' unsigned='' step=install changed=''
while [ $# -gt 0 ]; do
	case $1 in
	--site) [ $# -gt 1 ] || { usage >&2; exit 2; }; site=$2; shift ;;
	--simulator) simulator=yes ;;
	--key) [ $# -gt 1 ] || { usage >&2; exit 2; }; key=$2; shift ;;
	--unsigned) unsigned=yes ;;
	--beside) step=beside ;; # ems update: this version beside the one in use, which goes on
	--switch) step=switch ;; # ems update: the version that this file lies in becomes the one in use
	--remove) step=remove ;; # ems uninstall: all but the site and its state
	-h | --help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done

# What is checked before anything is touched

may_run_here() {
	[ "$(id -u)" = 0 ] || fail "this changes the system, so it must be root" "sudo sh $0"
	command -v python3 >/dev/null || fail "there is no python3" "apt-get install python3"
	command -v systemctl >/dev/null || fail "there is no systemd, which starts the agent" "use Debian 12 or 13 with systemd"
	[ -z "$site" ] || [ -r "$site" ] || fail "the site file $site cannot be read" "check its name"
	[ -z "$site" ] || [ -z "$simulator" ] || fail "--site and --simulator exclude each other" "choose one"
	[ -z "$key" ] || [ -r "$key" ] || fail "the key $key cannot be read" "check its name"
}

told() { # KEY of release.json
	python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$BUNDLE/release.json" "$1"
}

fits_this_machine() {
	python3 - "$BUNDLE/release.json" <<-'END' || fail "this bundle has no packages for this machine" "build one with make bundle for its Debian and processor"
	import json, platform, sys
	here = {"python": "%d.%d" % sys.version_info[:2], "machine": platform.machine()}
	targets = json.load(open(sys.argv[1]))["targets"]
	if here not in targets:
	    sys.exit("install: here is %(python)s on %(machine)s; " % here + "in it: %s" % targets)
	END
}

is_whole() {
	[ -f "$BUNDLE/MANIFEST" ] || fail "$BUNDLE is not a bundle: there is no MANIFEST" "unpack the .tar and run the install.sh in it"
	(cd "$BUNDLE" && sha256sum --check --quiet --strict MANIFEST >&2) ||
		fail "the bundle was damaged on its way" "copy the .tar again, compare its sha256sum, unpack it anew"
	[ -f "$BUNDLE/MANIFEST.sig" ] || [ -n "$unsigned" ] ||
		fail "nobody signed this bundle" "get a signed one, or take it at your own risk with --unsigned"
	[ -f "$BUNDLE/MANIFEST.sig" ] || [ -z "$key" ] || fail "--key was given, and nobody signed this bundle" "get a signed one"
}

has_room() {
	kib=$(df -Pk /opt | awk 'NR == 2 { print $4 }')
	[ "$kib" -ge 700000 ] || fail "/opt has $((kib / 1024)) MB free, 700 MB are needed" "make room: df -h /opt; apt-get clean"
}

# One version, beside others

works() { [ -e "$1/complete" ] && "$1/bin/ems" --help >/dev/null 2>&1; }

build_version() { # a folder without the mark `complete` was interrupted, and is made anew
	if works "$home" && cmp -s "$BUNDLE/MANIFEST" "$home/MANIFEST"; then
		say "version $version is there"
		return
	fi
	has_room
	changed=yes
	say "putting version $version into $home (a minute)"
	rm -rf "$home"
	mkdir -p "$home"
	chmod 0755 "$ROOT" "$ROOT/versions" "$home"
	# pip comes as a wheel too, so that a Python without it will do.
	python3 -m venv --without-pip "$home/venv"
	PYTHONPATH=$(echo "$BUNDLE"/wheels/pip-*.whl) PIP_CONFIG_FILE=/dev/null "$home/venv/bin/python" -m pip --isolated install \
		--quiet --disable-pip-version-check --no-cache-dir --root-user-action=ignore \
		--no-index --find-links "$BUNDLE/wheels" --require-hashes --only-binary :all: -r "$BUNDLE/requirements.txt"
	ln -s venv/bin "$home/bin"
	for part in systemd config docs README.md CHANGELOG.md LICENSE MANIFEST requirements.txt release.json sbom.cdx.json; do
		cp -R "$BUNDLE/$part" "$home/$part"
	done
	"$home/bin/ems" --help >/dev/null || fail "what was installed does not run" "send the lines above to the maintainer; $home can be removed"
	_EMS_COMPLETE=source_bash "$home/bin/ems" >"$home/completion.bash"
	{ # zsh wants its mark on the first line, and an answer from the file itself at the first Tab
		echo '#compdef ems'
		_EMS_COMPLETE=source_zsh "$home/bin/ems"
		echo '[ "$funcstack[1]" != _ems ] || _ems_completion'
	} >"$home/completion.zsh"
	sync -f "$home"
	: >"$home/complete"
	sync "$home/complete" "$home"
}

# The version in use

switch_to() {
	mkdir -p "$UNITS" /usr/local/lib/sysusers.d /usr/local/lib/tmpfiles.d /usr/local/bin
	put "$home/systemd/ems-agent.sysusers.conf" /usr/local/lib/sysusers.d/ems-agent.conf
	put "$home/systemd/ems-agent.tmpfiles.conf" /usr/local/lib/tmpfiles.d/ems-agent.conf
	new=''
	for unit in "$home"/systemd/*.service "$home"/systemd/*.path; do
		name=$(basename "$unit")
		[ -e "$UNITS/$name" ] || new="$new $name"
		put "$unit" "$UNITS/$name"
	done
	link "versions/$version" "$ROOT/current"
	link "$ROOT/current/bin/ems" /usr/local/bin/ems
	mkdir -p "$(dirname "$BASH_COMPLETION")" "$(dirname "$ZSH_COMPLETION")"
	put "$home/completion.bash" "$BASH_COMPLETION"
	put "$home/completion.zsh" "$ZSH_COMPLETION"
	systemd-sysusers /usr/local/lib/sysusers.d/ems-agent.conf
	systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/ems-agent.conf
	[ ! -d /run/systemd/system ] || systemctl daemon-reload
	if [ $step = switch ]; then # a unit that the version before did not have
		for name in $new; do
			! grep -q '^WantedBy=' "$UNITS/$name" || [ "$name" = ems-simulator.service ] || systemctl --quiet enable "$name"
			case $name in *.path) systemctl start "$name" ;; esac
		done
	fi
	sync "$ROOT"
}

put() { # FROM TO: at once, and only where it differs
	cmp -s "$1" "$2" && return
	changed=yes
	cp "$1" "$2.new"
	chmod 0644 "$2.new"
	mv "$2.new" "$2"
}

link() { # TARGET NAME: at once
	[ "$(readlink "$2" || :)" = "$1" ] && return
	changed=yes
	ln -sfn "$1" "$2.new"
	mv -T "$2.new" "$2"
}

remove() { # the site's files, its state and the users stay
	for unit in "$UNITS"/ems-*; do
		[ ! -e "$unit" ] || systemctl --quiet disable --now "$(basename "$unit")" 2>/dev/null || :
	done
	rm -f "$UNITS"/ems-agent*.service "$UNITS"/ems-agent*.path "$UNITS/ems-simulator.service"
	rm -f /usr/local/lib/sysusers.d/ems-agent.conf /usr/local/lib/tmpfiles.d/ems-agent.conf /usr/local/bin/ems
	rm -f "$BASH_COMPLETION" "$ZSH_COMPLETION"
	[ ! -d /run/systemd/system ] || systemctl daemon-reload
	rm -rf "$ROOT"
}

# The site

keep_key() { # who may sign the next version; kept from the first installation on
	[ -f "$BUNDLE/MANIFEST.sig" ] || return 0
	signer=${key:-$BUNDLE/signing-key.pem}
	[ ! -e "$ETC/update-key.pem" ] || signer=$ETC/update-key.pem
	"$home/venv/bin/python" -I -m agent.update.release "$BUNDLE" "$signer" || fail "the bundle is not to be trusted" "see above"
	[ -e "$ETC/update-key.pem" ] || put "$signer" "$ETC/update-key.pem"
}

keep_site_file() {
	if [ -e "$ETC/site.toml" ]; then
		[ -z "$site$simulator" ] || say "$ETC/site.toml is there and stays as it is"
		return
	fi
	if [ -n "$simulator" ]; then
		cp "$home/config/simulated/simulator.toml" "$ETC/simulator.toml"
		site=$home/config/simulated/site.toml
	fi
	if [ -n "$site" ]; then
		cp "$site" "$ETC/site.toml.new"
		chmod 0644 "$ETC/site.toml.new"
		mv "$ETC/site.toml.new" "$ETC/site.toml"
	fi
}

start() {
	if [ -n "$simulator" ] && [ -e "$ETC/simulator.toml" ]; then
		systemctl --quiet enable ems-simulator
		[ ! -d /run/systemd/system ] || { systemctl start ems-simulator && simulator_answers; }
	fi
	systemctl --quiet enable ems-agent ems-agent-update.path
	[ -d /run/systemd/system ] || { say "systemd does not run here: the agent starts with the next boot"; return; }
	systemctl start ems-agent-update.path
	# Nothing changed: a running agent is left alone.
	systemctl "$([ -n "$changed" ] && echo restart || echo start)" ems-agent || fail "the agent does not start" "journalctl -u ems-agent -n 20"
}

simulator_answers() {
	python3 - <<-'END' || fail "the simulated site does not answer" "journalctl -u ems-simulator -n 20"
	import socket, sys, time
	for _ in range(100):
	    try:
	        sys.exit(socket.create_connection(("127.0.0.1", 5020), 1).close())
	    except OSError:
	        time.sleep(0.2)
	sys.exit(1)
	END
}

may_run_here
version=$(told version)
home=$ROOT/versions/$version

case $step in
switch) switch_to; exit ;;
remove) remove; exit ;;
esac
fits_this_machine
if [ $step = beside ]; then
	build_version
	exit
fi
is_whole
used=$(readlink "$ROOT/current" 2>/dev/null || :)
if [ -n "$used" ] && [ "$used" != "versions/$version" ] && [ -e "$ROOT/$used" ]; then
	fail "version ${used#versions/} is installed" "ems update BUNDLE.tar changes it, and goes back by itself where the new one does not work"
fi
build_version
mkdir -p "$ETC"
keep_key
switch_to
keep_site_file
if [ ! -e "$ETC/site.toml" ]; then
	say "version $version is installed. It has no site file yet, so it is not started."
	echo "next:  cp $ROOT/current/config/stand-alone.toml $ETC/site.toml"
	echo "       \$EDITOR $ETC/site.toml                # $ROOT/current/config/site.example.toml explains every key"
	echo "       ems config check --config $ETC/site.toml"
	echo "       systemctl enable --now ems-agent"
	exit
fi
"$home/bin/ems" config check --config "$ETC/site.toml" >/dev/null ||
	fail "the agent is installed; the site file cannot be used, see above" "mend $ETC/site.toml, then run this again"
start
say "version $version is installed and runs."
echo "next:  ems status      # who decides, powers, devices"
echo "       ems explain     # the last setpoint: wanted, written, confirmed by the device"
echo "       adduser NAME ems   # who may look; ems-operator: who may move power"
