/* Programs that hang in native code, or only look like something else. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What a reader of interpreters looks for, with nothing in it that is true. */
__attribute__((visibility("default"))) unsigned long _PyRuntime[4096];
__attribute__((visibility("default"))) unsigned long Py_Version = 0x030b07f0;
const char version[] = "3.11.7 (main, Jan  1 2024, 00:00:00) [GCC 12]";

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

__attribute__((noinline)) void rebalance(void) {
    pthread_mutex_lock(&mutex);
    puts("ready");
    fflush(stdout);
    pthread_mutex_lock(&mutex);
    puts("never");
}

__attribute__((noinline)) void garbage(const char *path) {
    int file = open(path, O_RDONLY);
    volatile char *code = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    void *volatile return_addresses[64];
    for (int i = 0; i < 64; i++)
        return_addresses[i] = (char *)code + 16;
    printf("ready%s", return_addresses[3] == MAP_FAILED ? " not mapped\n" : "\n");
    fflush(stdout);
    pause();
    puts(return_addresses[5] ? "" : "never");
}

int main(int count, char **words) {
    for (unsigned long i = 0; i < 4096; i++)
        _PyRuntime[i] = i % 3 ? (unsigned long)&_PyRuntime[(i * 7919) % 4096] : i * 0x9e3779b97f4a7c15ul;
    if (count > 1)
        garbage(words[1]);
    rebalance();
    return version[0];
}
