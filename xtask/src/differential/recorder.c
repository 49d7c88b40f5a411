/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What is called at each edge while builds are compared: by calls, or by checks. It knows nothing of the runtime. It
 * changes all registers that a called function may change: code that relies on one of them computes something else.
 *
 * RECORD names the file for what is recorded, as addresses from the program's first byte. MODE is `trace` (every time) or `unique`
 * (the first time); otherwise nothing is recorded, and checks never call.
 */
#define _GNU_SOURCE
#ifdef __x86_64__
#include <asm/hwcap2.h>
#include <asm/prctl.h>
#endif
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX (1ul << 22)
#define SPAN (1ul << 30)

extern const unsigned char __ehdr_start[] __attribute__((visibility("hidden")));
extern unsigned char __start_rkcov_sites[] __attribute__((weak, visibility("hidden")));
extern unsigned char __stop_rkcov_sites[] __attribute__((weak, visibility("hidden")));

static uint64_t *records;
static unsigned char *seen;
static size_t count;
static int unique;
static pid_t owner;

static void *memory(size_t size, int protection)
{
	void *at = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		abort();
	return at;
}

static void set_base(unsigned long base)
{
#ifdef __x86_64__
	/* The system call refuses a base below 0, as for a static PIE, which lies above all other memory. */
	if (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)
		__asm__ volatile("wrgsbase %0" ::"r"(base));
	else if (syscall(SYS_arch_prctl, ARCH_SET_GS, base))
		abort();
#else
	((unsigned long *)__builtin_thread_pointer())[1] = base;
#endif
}

static unsigned long get_base(void)
{
#ifdef __x86_64__
	unsigned long base;

	syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
	return base;
#else
	return ((unsigned long *)__builtin_thread_pointer())[1];
#endif
}

__attribute__((constructor(101))) static void begin(void)
{
	const char *mode = getenv("MODE");
	size_t sites = __stop_rkcov_sites - __start_rkcov_sites;

	if (!mode || !getenv("RECORD"))
		return;
	owner = getpid();
	unique = !strcmp(mode, "unique");
	seen = memory(SPAN, PROT_READ | PROT_WRITE);
	records = memory(MAX * sizeof(*records), PROT_READ | PROT_WRITE);
	if (sites) {
		unsigned char *map = memory(sites, PROT_READ | PROT_WRITE);

		/* Zeros that nobody writes, or a map of the sites. */
		set_base((unsigned long)map - (unsigned long)__start_rkcov_sites);
	}
}

__attribute__((destructor(101))) static void end(void)
{
	int file;

	if (!records || getpid() != owner)
		return;
	file = open(getenv("RECORD"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (file < 0 || write(file, records, count * sizeof(*records)) != (ssize_t)(count * sizeof(*records)))
		abort();
	records = NULL;
}

__attribute__((used)) static void record(uintptr_t pc)
{
	uintptr_t offset = pc - (uintptr_t)__ehdr_start;

	if (!records || count == MAX || offset >= SPAN)
		return;
	if (unique && seen[offset])
		return;
	seen[offset] = 1;
	records[count++] = offset;
}

#ifdef __x86_64__
/* At the return address stands the jump back; six bytes before its target stands a je, and before that the comparison. */
__attribute__((used)) static void hit(const unsigned char *back)
{
	int32_t to_hot, to_site;
	const unsigned char *hot;

	memcpy(&to_hot, back + 1, 4);
	hot = back + 5 + to_hot;
	memcpy(&to_site, hot - 11, 4);
	if (back[0] != 0xe9 || memcmp(hot - 14, "\x65\x80\x3d", 3) || memcmp(hot - 6, "\x0f\x84", 2))
		abort();
	record((uintptr_t)hot);
	if (unique) {
		const unsigned char *site = hot - 6 + to_site;

		*(unsigned char *)(site + get_base()) = 1;
	}
}

/* The stack is aligned, as for any function; and what may be lost is lost. */
#define ENTRY(name, function)                                                                                                          \
	__asm__(".text\n\t.globl " name "\n\t.type " name ", @function\n" name ":\n\t.cfi_startproc\n\tmov (%rsp), %rdi\n\t"           \
		"test $8, %spl\n\tjnz 1f\n\tud2\n1:\tsub $8, %rsp\n\t.cfi_adjust_cfa_offset 8\n\tcall " function "\n\tadd $8, %rsp\n\t"  \
		".cfi_adjust_cfa_offset -8\n\tmovabs $0x5a5a5a5a5a5a5a5a, %rax\n\tmov %rax, %rcx\n\tmov %rax, %rdx\n\t"                  \
		"mov %rax, %rsi\n\tmov %rax, %rdi\n\tmov %rax, %r8\n\tmov %rax, %r9\n\tmov %rax, %r10\n\tmov %rax, %r11\n\t"              \
		"movq %rax, %xmm0\n\tmovq %rax, %xmm1\n\tmovq %rax, %xmm2\n\tmovq %rax, %xmm3\n\tmovq %rax, %xmm4\n\t"                  \
		"movq %rax, %xmm5\n\tmovq %rax, %xmm6\n\tmovq %rax, %xmm7\n\tmovq %rax, %xmm8\n\tmovq %rax, %xmm9\n\t"                  \
		"movq %rax, %xmm10\n\tmovq %rax, %xmm11\n\tmovq %rax, %xmm12\n\tmovq %rax, %xmm13\n\tmovq %rax, %xmm14\n\t"             \
		"movq %rax, %xmm15\n\tadd %rax, %rax\n\tret\n\t.cfi_endproc\n\t.size " name ", .-" name "\n")

#else
/* Behind a check. The fifth instruction before has the page of the byte, the third the rest of its address. */
__attribute__((used)) static void hit(const uint32_t *pc)
{
	uint32_t page = pc[-5], rest = pc[-3];
	int64_t pages = (int64_t)((int32_t)(page << 8) >> 13) * 4 + (page >> 29 & 3);

	if (pc[-8] != 0xd53bd050 || (page & 0x9f00001f) != 0x90000011 || (rest & 0xffc003ff) != 0x39400210)
		abort();
	record((uintptr_t)pc);
	if (unique) {
		uintptr_t site = ((uintptr_t)(pc - 5) & ~0xffful) + pages * 4096 + (rest >> 10 & 0xfff);

		*(unsigned char *)(site + get_base()) = 1;
	}
}

/* As above, but for v8 to v15, of which the lower halves may not be lost. */
#define ENTRY(name, function)                                                                                                          \
	__asm__(".text\n\t.globl " name "\n\t.type " name ", %function\n" name ":\n\t.cfi_startproc\n\t"                            \
		"stp x29, x30, [sp, -16]!\n\t.cfi_def_cfa_offset 16\n\t.cfi_offset 29, -16\n\t.cfi_offset 30, -8\n\t"                \
		"mov x0, x30\n\tbl " function "\n\tldp x29, x30, [sp], 16\n\t.cfi_restore 29\n\t.cfi_restore 30\n\t"                \
		".cfi_def_cfa_offset 0\n\tmov x0, #0x5a5a\n\torr x0, x0, x0, lsl 16\n\torr x0, x0, x0, lsl 32\n\t"         \
		".irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18\n\tmov x\\n, x0\n\t.endr\n\t"                \
		".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n\t"                  \
		"dup v\\n\\().2d, x0\n\t.endr\n\tadds xzr, x0, x0\n\tret\n\t.cfi_endproc\n\t.size " name ", .-" name "\n")
#endif

ENTRY("__sanitizer_cov_trace_pc", "record");
ENTRY("__rkcov_hit", "hit");
