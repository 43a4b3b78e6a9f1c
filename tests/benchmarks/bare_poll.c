/* The measure of polling: ten devices, four blocks of 50 registers each, once a second, with libmodbus and nothing else.
 * bare_poll PORT...: for `poll_cost`, where gcc and libmodbus are installed. */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int count, char **ports)
{
    modbus_t *lines[256];
    uint16_t registers[125];
    struct timespec due;
    if (count < 2 || count > 256)
        return 2;
    for (int at = 1; at < count; at++) {
        lines[at] = modbus_new_tcp("127.0.0.1", atoi(ports[at]));
        if (lines[at] == NULL || modbus_set_slave(lines[at], 1) || modbus_connect(lines[at])) {
            fprintf(stderr, "port %s: %s\n", ports[at], modbus_strerror(errno));
            return 1;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &due);
    for (;;) {
        for (int at = 1; at < count; at++)
            for (int block = 0; block < 4; block++)
                if (modbus_read_registers(lines[at], 100 * block, 50, registers) != 50) {
                    fprintf(stderr, "port %s: %s\n", ports[at], modbus_strerror(errno));
                    return 1;
                }
        due.tv_sec++;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
    }
}
