/* fake_cuda - how a test comes to have the driver of fake_cuda.c. */
#ifndef TESTS_RUNTIME_FAKE_CUDA_H
#define TESTS_RUNTIME_FAKE_CUDA_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Builds the fake beside this program and starts again with it in front of any real driver. */
static int with_fake(char **argv)
{
    char folder[4096], command[9000];
    if (getenv("DGK_FAKE_CUDA")) return 0;
    snprintf(folder, sizeof folder, "%s.fake", argv[0]);
    mkdir(folder, 0777);
    snprintf(command, sizeof command, "%s -shared -fPIC -o '%s/libcuda.so.1' tests/runtime/fake_cuda.c", getenv("CC") ? getenv("CC") : "cc", folder);
    if (system(command)) return printf("0 passed, 1 failed (the fake driver does not build)\n"), 1;
    setenv("LD_LIBRARY_PATH", folder, 1);
    setenv("DGK_FAKE_CUDA", "1", 1);
    setenv("DGC_DISABLE_CACHE", "1", 1);
    setenv("DGC_PTXAS", "driver", 1);
    execv(argv[0], argv);
    return 1;
}

#endif
