// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What Linux's Rust has no binding for: macros, inline functions, exports. No rule of kcov stands
 * here, and nothing that a callback calls.
 */
#include <linux/debugfs.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/kcov.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>

EXPORT_SYMBOL(kcov_remote_start);
EXPORT_SYMBOL(kcov_remote_stop);
EXPORT_SYMBOL(kcov_common_handle);
EXPORT_SYMBOL(__sanitizer_cov_trace_pc);
#ifdef CONFIG_KCOV_ENABLE_COMPARISONS
EXPORT_SYMBOL(__sanitizer_cov_trace_cmp1);
EXPORT_SYMBOL(__sanitizer_cov_trace_cmp2);
EXPORT_SYMBOL(__sanitizer_cov_trace_cmp4);
EXPORT_SYMBOL(__sanitizer_cov_trace_cmp8);
EXPORT_SYMBOL(__sanitizer_cov_trace_const_cmp1);
EXPORT_SYMBOL(__sanitizer_cov_trace_const_cmp2);
EXPORT_SYMBOL(__sanitizer_cov_trace_const_cmp4);
EXPORT_SYMBOL(__sanitizer_cov_trace_const_cmp8);
EXPORT_SYMBOL(__sanitizer_cov_trace_switch);
#endif

void rkcov_spin_init(raw_spinlock_t *lock)
{
	raw_spin_lock_init(lock);
}

unsigned long rkcov_spin_lock(raw_spinlock_t *lock)
{
	unsigned long saved;

	raw_spin_lock_irqsave(lock, saved);
	return saved;
}

void rkcov_spin_unlock(raw_spinlock_t *lock, unsigned long saved)
{
	raw_spin_unlock_irqrestore(lock, saved);
}

void rkcov_mutex_init(struct mutex *lock)
{
	mutex_init(lock);
}

unsigned long rkcov_irq_save(void)
{
	unsigned long saved;

	local_irq_save(saved);
	return saved;
}

void rkcov_irq_restore(unsigned long saved)
{
	local_irq_restore(saved);
}

#ifdef CONFIG_KCOV_SELFTEST
void rkcov_preempt_disable(void)
{
	preempt_disable();
}

void rkcov_preempt_enable(void)
{
	preempt_enable();
}
#endif

unsigned int rkcov_cpu(void)
{
	return raw_smp_processor_id();
}

unsigned int rkcov_cpus(void)
{
	return nr_cpu_ids;
}

void *rkcov_alloc(size_t bytes)
{
	return kvzalloc(bytes, GFP_KERNEL | __GFP_NOWARN);
}

/* In any context but an NMI. */
void rkcov_free(void *block)
{
	if (is_vmalloc_addr(block))
		vfree_atomic(block);
	else
		kfree(block);
}

void *rkcov_buffer(size_t bytes)
{
	return vmalloc_user(bytes);
}

void rkcov_warn(const char *message)
{
	WARN(1, "kcov: %s\n", message);
}

u64 rkcov_random(void)
{
	return get_random_u64();
}

/* The files of debugfs; they are never removed, so nothing protects them against that. */
int rkcov_create_files(const struct file_operations *device, u64 *const drops[4])
{
	static const char *const names[] = { "full", "stale", "no_area", "deep" };
	struct dentry *folder = debugfs_create_dir("kcov_drops", NULL);
	int i;

	debugfs_create_file_unsafe("kcov", 0600, NULL, NULL, device);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		debugfs_create_u64(names[i], 0400, folder, drops[i]);
	return 0;
}

extern int rkcov_init(void);
device_initcall(rkcov_init);
