/*
 * QEMU TCG plug-in: guest instructions per translated block, between markers.
 *
 * The guest calls getppid() where an interval begins and again where it ends (any
 * number of intervals). The plug-in writes to the file out=PATH, for each interval
 *
 *     begin
 *     HEXADDRESS INSTRUCTIONS       one line a block that ran
 *     end THREADS OTHERS            guest threads alive, instructions of all but the first
 *
 * and a last line "exit" when the guest ends. With split=HEXADDRESS there is a line
 * "part" in an interval wherever the guest entered the block at that address.
 *
 * Only the first guest thread is counted by block; it is the one that must mark. What
 * other threads ran in an interval is one number: 0, or the count depends on chance.
 *
 * Distributions ship QEMU without qemu-plugin.h, so the few declarations needed are
 * written out: plug-in API version 1 (QEMU 4.2 to 8.2).
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
typedef struct {
    const char *target_name;
    struct {
        int min, cur;
    } version;
    bool system_emulation;
} qemu_info_t; /* the real one has more at its end, unused here */

struct qemu_plugin_tb;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

typedef void (*translated_t)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*executed_t)(unsigned int vcpu, void *data);
typedef void (*vcpu_t)(qemu_plugin_id_t, unsigned int vcpu);
typedef void (*syscall_t)(qemu_plugin_id_t, unsigned int vcpu, int64_t number, uint64_t, uint64_t,
                          uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
typedef void (*exited_t)(qemu_plugin_id_t, void *data);

void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t, vcpu_t);
void qemu_plugin_register_vcpu_exit_cb(qemu_plugin_id_t, vcpu_t);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_t);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed_t,
                                          enum qemu_plugin_cb_flags, void *data);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_t);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, exited_t, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

EXPORT int qemu_plugin_version = 1;

enum { GETPPID = 173 }; /* the system call's number on 64-bit Arm */

/* Translated code holds a block's address: it is never moved or freed. Code that is
 * translated anew gets a second block for the same place. */
struct block {
    uint64_t length; /* in instructions */
    uint64_t executed, reported;
    uint64_t address;
    struct block *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *blocks;
static FILE *out;
static uint64_t split_address;
static bool counting;
static unsigned int threads;
static uint64_t others;

static void forget_counts(void)
{
    for (struct block *b = blocks; b; b = b->next) {
        b->reported = b->executed;
    }
}

static void report_counts(void)
{
    for (struct block *b = blocks; b; b = b->next) {
        uint64_t times = b->executed - b->reported;
        if (times) {
            fprintf(out, "%" PRIx64 " %" PRIu64 "\n", b->address, times * b->length);
            b->reported = b->executed;
        }
    }
}

static void on_syscall(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1,
                       uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6,
                       uint64_t a7, uint64_t a8)
{
    if (number != GETPPID || vcpu != 0) {
        return;
    }
    pthread_mutex_lock(&lock);
    if (counting) {
        report_counts();
        fprintf(out, "end %u %" PRIu64 "\n", __atomic_load_n(&threads, __ATOMIC_RELAXED),
                __atomic_load_n(&others, __ATOMIC_RELAXED));
    } else {
        forget_counts();
        __atomic_store_n(&others, 0, __ATOMIC_RELAXED);
        fputs("begin\n", out);
    }
    counting = !counting;
    pthread_mutex_unlock(&lock);
}

static void on_split(unsigned int vcpu, void *data)
{
    pthread_mutex_lock(&lock);
    if (counting && vcpu == 0) {
        report_counts();
        fputs("part\n", out);
    }
    pthread_mutex_unlock(&lock);
}

static void on_executed(unsigned int vcpu, void *data)
{
    struct block *b = data;
    if (vcpu == 0) {
        b->executed++;
    } else {
        __atomic_add_fetch(&others, b->length, __ATOMIC_RELAXED);
    }
}

static void on_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    struct block *b = calloc(1, sizeof *b);
    if (!b) {
        fputs("block_counts: out of memory\n", stderr);
        abort();
    }
    b->address = qemu_plugin_tb_vaddr(tb);
    b->length = qemu_plugin_tb_n_insns(tb);
    pthread_mutex_lock(&lock);
    b->next = blocks;
    blocks = b;
    pthread_mutex_unlock(&lock);
    /* The split comes first: the block at the address belongs to the part it opens. */
    if (split_address && b->address == split_address) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_split, QEMU_PLUGIN_CB_NO_REGS, NULL);
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_executed, QEMU_PLUGIN_CB_NO_REGS, b);
}

static void on_vcpu_init(qemu_plugin_id_t id, unsigned int vcpu)
{
    __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED);
}

static void on_vcpu_exit(qemu_plugin_id_t id, unsigned int vcpu)
{
    __atomic_sub_fetch(&threads, 1, __ATOMIC_RELAXED);
}

static void on_exit_of_guest(qemu_plugin_id_t id, void *data)
{
    fputs("exit\n", out);
    fclose(out);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    const char *path = NULL;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4)) {
            path = argv[i] + 4;
        } else if (!strncmp(argv[i], "split=", 6)) {
            split_address = strtoull(argv[i] + 6, NULL, 16);
        } else {
            fprintf(stderr, "block_counts: unknown argument %s\n", argv[i]);
            return -1;
        }
    }
    if (strcmp(info->target_name, "aarch64") || info->system_emulation) {
        fprintf(stderr, "block_counts: made for qemu-aarch64 in user mode, not for %s\n",
                info->target_name);
        return -1;
    }
    out = path ? fopen(path, "w") : NULL;
    if (!out) {
        fprintf(stderr, "block_counts: cannot write out=%s\n", path ? path : "(missing)");
        return -1;
    }
    qemu_plugin_register_vcpu_init_cb(id, on_vcpu_init);
    qemu_plugin_register_vcpu_exit_cb(id, on_vcpu_exit);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    qemu_plugin_register_atexit_cb(id, on_exit_of_guest, NULL);
    return 0;
}
