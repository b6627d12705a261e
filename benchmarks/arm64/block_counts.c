/*
 * QEMU TCG plug-in: guest instructions by class and translated block, between markers.
 *
 * The guest calls getppid() where an interval begins and again where it ends (any
 * number of intervals). The plug-in writes to the file out=PATH, for each interval
 *
 *     begin
 *     HEXADDRESS DOT SIMD MEMORY OTHER    one line a block that ran: instructions by class
 *     end THREADS OTHERS                  guest threads alive, instructions of all but the first
 *
 * and a last line "exit" when the guest ends. Wherever the guest entered the block at
 * split=HEXADDRESS, or came back to a block in region=HEXSTART-HEXEND (end excluded) from
 * outside of it, the interval has a line "part HEXADDRESS", and the counts start anew.
 *
 * Only the first guest thread is counted by block; it is the one that must mark. What
 * other threads ran in an interval is one number: 0, or the count depends on chance.
 *
 * An instruction is classified once, when its block is translated; running a block adds
 * one to one number. Distributions ship QEMU without qemu-plugin.h, so the few
 * declarations needed are written out: plug-in API version 1 (QEMU 4.2 to 8.2).
 */
#include <inttypes.h>
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
struct qemu_plugin_insn;
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
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = 1;

enum { GETPPID = 173 }; /* the system call's number on 64-bit Arm */

/* Each instruction is of one class. SIMD: Advanced SIMD other than the dot products, its
 * scalar forms included. OTHER: integers, branches, system, scalar floating point. */
enum class { DOT, SIMD, MEMORY, OTHER, CLASSES };

/* Translated code holds a block's address: it is never moved or freed. Code that is
 * translated anew gets a second block for the same place. */
struct block {
    uint64_t length; /* in instructions, the sum of the next */
    uint64_t of_class[CLASSES];
    uint64_t executed, reported;
    uint64_t address;
    bool in_region;
    struct block *next; /* in the list of those that ran since the last report */
};

/* Only the first guest thread touches these, so they need no lock. */
static struct block *touched;
static bool touched_outside; /* one of them is not in the region */
static FILE *out;
static uint64_t split_address, region_start, region_end;
static bool counting;

static unsigned int threads;
static uint64_t others;

/* The top-level groups of the A64 encoding and, within the SIMD group, SDOT and UDOT
 * (vector; by element): Arm Architecture Reference Manual, C4.1. */
static enum class class_of(uint32_t code)
{
    if ((code & 0x0A000000) == 0x08000000) {
        return MEMORY; /* loads, stores and prefetches, of SIMD registers, too */
    }
    if ((code & 0x0E000000) != 0x0E000000 || (code & 0x5E000000) == 0x1E000000) {
        return OTHER;
    }
    if ((code & 0x9FE0FC00) == 0x0E809400 || (code & 0x9FC0F400) == 0x0F80E000) {
        return DOT;
    }
    return SIMD;
}

static void report_counts(bool print)
{
    for (struct block *b = touched; b; b = b->next) {
        uint64_t times = b->executed - b->reported;
        b->reported = b->executed;
        if (print) {
            fprintf(out, "%" PRIx64, b->address);
            for (int c = 0; c < CLASSES; c++) {
                fprintf(out, " %" PRIu64, times * b->of_class[c]);
            }
            fputc('\n', out);
        }
    }
    touched = NULL;
    touched_outside = false;
}

static void on_syscall(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1,
                       uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6,
                       uint64_t a7, uint64_t a8)
{
    if (number != GETPPID || vcpu != 0) {
        return;
    }
    report_counts(counting);
    if (counting) {
        fprintf(out, "end %u %" PRIu64 "\n", __atomic_load_n(&threads, __ATOMIC_RELAXED),
                __atomic_load_n(&others, __ATOMIC_RELAXED));
    } else {
        __atomic_store_n(&others, 0, __ATOMIC_RELAXED);
        fputs("begin\n", out);
    }
    counting = !counting;
}

static void on_split(unsigned int vcpu, void *data)
{
    const struct block *b = data;
    if (counting && vcpu == 0 && (touched_outside || b->address == split_address)) {
        report_counts(true);
        fprintf(out, "part %" PRIx64 "\n", b->address);
    }
}

static void on_executed(unsigned int vcpu, void *data)
{
    struct block *b = data;
    if (vcpu == 0) {
        if (b->executed++ == b->reported) {
            b->next = touched;
            touched = b;
            touched_outside |= !b->in_region;
        }
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
    for (size_t i = 0; i < b->length; i++) {
        uint32_t code; /* the guest and every host of QEMU's that we meet are little-endian */
        memcpy(&code, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof code);
        b->of_class[class_of(code)]++;
    }
    b->in_region = b->address >= region_start && b->address < region_end;
    /* The split comes first: a block belongs to the part that it opens. */
    if (b->in_region || (split_address && b->address == split_address)) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_split, QEMU_PLUGIN_CB_NO_REGS, b);
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
        } else if (!strncmp(argv[i], "region=", 7) &&
                   sscanf(argv[i] + 7, "%" SCNx64 "-%" SCNx64, &region_start, &region_end) == 2) {
            continue;
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
