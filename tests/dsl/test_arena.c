/* An arena that was reset hands out zeroed memory again, and asks the system for none when it is used the same way. */
#include "dsl/base.h"

#include <stdio.h>
#include <string.h>

int main(void)
{
    struct arena a = { 0 };
    int passed = 0, failed = 0;
    size_t used = 0;
    for (int round = 0; round < 4; round++) {
        bool zero = true;
        for (int i = 0; i < 200; i++) {
            char *p = arena_alloc(&a, 3000);
            for (int k = 0; k < 3000; k++) zero &= !p[k];
            memset(p, 0xff, 3000);
        }
        zero && (round < 2 || a.used == used) ? passed++ : failed++;
        used = a.used;
        arena_reset(&a);
    }
    arena_free(&a);
    a.used == 0 && !a.head ? passed++ : failed++;
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
