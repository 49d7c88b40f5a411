#ifdef CONFIG_KCOV
#include <linux/fs.h>
#include <linux/kcov.h>
#include <linux/mm.h>
#include <linux/preempt.h>
#include <linux/vmalloc.h>
#include <asm/setup.h>
const size_t RUST_CONST_HELPER_RKCOV_HOT = offsetof(struct task_struct, kcov_mode);
const size_t RUST_CONST_HELPER_RKCOV_HOT_LIMIT = offsetof(struct task_struct, kcov_size);
const size_t RUST_CONST_HELPER_RKCOV_HOT_AREA = offsetof(struct task_struct, kcov_area);
const size_t RUST_CONST_HELPER_RKCOV_TASK = offsetof(struct task_struct, rkcov_task);
const size_t RUST_CONST_HELPER_RKCOV_TASK_SIZE = sizeof_field(struct task_struct, rkcov_task);
const size_t RUST_CONST_HELPER_RKCOV_IRQ_AREA_SIZE = CONFIG_KCOV_IRQ_AREA_SIZE;
const size_t RUST_CONST_HELPER_RKCOV_THREAD_SIZE = THREAD_SIZE;
const size_t RUST_CONST_HELPER_RKCOV_SOFTIRQ_OFFSET = SOFTIRQ_OFFSET;
const size_t RUST_CONST_HELPER_RKCOV_INTERRUPT_MASK = NMI_MASK | HARDIRQ_MASK;
/* x86-64 has its preempt count in a per-CPU variable; UML of 6.12 has no thread_info in its tasks. */
#if (defined(CONFIG_UML) || defined(CONFIG_ARM64)) && defined(CONFIG_THREAD_INFO_IN_TASK)
const size_t RUST_CONST_HELPER_RKCOV_PREEMPT_COUNT =
	offsetof(struct task_struct, thread_info.preempt_count);
#endif
#ifdef CONFIG_RANDOMIZE_BASE
#ifdef CONFIG_ARM64
const size_t RUST_CONST_HELPER_RKCOV_LINKED_AT = KIMAGE_VADDR;
#else
const size_t RUST_CONST_HELPER_RKCOV_LINKED_AT = __START_KERNEL;
#endif
#endif
#ifdef CONFIG_PREEMPT_RT
const size_t RUST_CONST_HELPER_RKCOV_SOFTIRQ_DISABLE_CNT =
	offsetof(struct task_struct, softirq_disable_cnt);
#endif
#endif
