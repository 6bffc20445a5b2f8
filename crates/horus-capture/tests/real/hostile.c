/* Programs that grow, change and lie. Each has a thread that ticks: whoever harms it stops that. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a reader of interpreters looks for. */
__attribute__((visibility("default"))) unsigned long _PyRuntime[65536];
__attribute__((visibility("default"))) unsigned int Py_Version = 0x030b07f0;
const char version[] = "3.11.7 (main, Jan  1 2024, 00:00:00) [GCC 12]";

static void *tick(void *unused) {
    for (;;)
        usleep(2000);
    return unused;
}

static void start(void *(*body)(void *), void *argument, size_t stack) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack);
    if (pthread_create(&thread, &attributes, body, argument)) {
        puts("no thread");
        exit(1);
    }
}

static void say_ready(void) {
    puts("ready");
    fflush(stdout);
}

/* Each frame holds a kilobyte. */
__attribute__((noinline)) int dive(long left) {
    volatile char room[1024];
    room[left % 1024] = 1;
    if (left == 0) {
        say_ready();
        pause();
    }
    return left ? dive(left - 1) + room[0] : 0;
}

static void *diver(void *bytes) {
    return (void *)(long)dive((long)bytes / 1100);
}

static void *rest(void *unused) {
    pause();
    return unused;
}

int main(int count, char **words) {
    const char *mode = count > 1 ? words[1] : "";
    long number = count > 2 ? atol(words[2]) : 0;
    start(tick, 0, 1 << 16);
    unsigned long *runtime = _PyRuntime;
    for (unsigned long i = 0; i < 65536; i++) {
        if (!strcmp(mode, "ring"))
            runtime[i] = (unsigned long)runtime;
        else if (!strcmp(mode, "huge"))
            runtime[i] = i % 2 ? (unsigned long)&runtime[(i * 31) % 65536] : 0x7fffffffffffff00ul;
        else if (!strcmp(mode, "noise"))
            runtime[i] = i % 3 ? (unsigned long)&runtime[(i * 7919) % 65536] : i * 0x9e3779b97f4a7c15ul;
    }
    if (!strcmp(mode, "threads"))
        for (long i = 0; i < number; i++)
            start(rest, 0, 1 << 14);
    if (!strcmp(mode, "stack")) {
        start(diver, (void *)number, number + (8 << 20));
        pause();
    }
    if (!strcmp(mode, "exec")) {
        /* It becomes itself again, and again: two programs by turns. */
        if (number == 0)
            say_ready();
        usleep(3000);
        execl(words[3], words[3], "exec", number % 2 ? "2" : "1", number % 2 ? words[4] : words[3], words[3], (char *)0);
        return 1;
    }
    say_ready();
    pause();
    return version[0];
}
