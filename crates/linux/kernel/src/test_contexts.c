// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Runs a function in a context of its caller's choice and returns when it has run. Nothing here is
 * instrumented, nor are softirqs and the scheduler; while other functions of the kernel's are called,
 * the task is muted as the scheduler mutes it. So a section around it records nothing of this.
 */
#include <linux/debugfs.h>
#include <linux/init.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/kcov.h>
#include <linux/kthread.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/workqueue.h>
#include <asm/setup.h>

struct call {
	void (*function)(void *argument);
	void *argument;
	struct task_struct *task;
	bool done;
	union {
		struct tasklet_struct tasklet;
		struct irq_work irq_work;
		struct work_struct work;
	};
};

static void in_tasklet(struct tasklet_struct *tasklet)
{
	struct call *call = container_of(tasklet, struct call, tasklet);

	/* It was put off to another task: the caller tries again. */
	if (current != call->task)
		return;
	call->function(call->argument);
	WRITE_ONCE(call->done, true);
}

/* On top of the calling task: with bottom halves off the tasklet waits for us to turn them on. */
void rkcov_test_in_softirq(void (*function)(void *), void *argument)
{
	struct call call = { .function = function, .argument = argument, .task = current };

	tasklet_setup(&call.tasklet, in_tasklet);
	while (!READ_ONCE(call.done)) {
		local_bh_disable();
		tasklet_schedule(&call.tasklet);
		local_bh_enable();
		tasklet_unlock_wait(&call.tasklet);
	}
	tasklet_kill(&call.tasklet);
}

static void in_irq_work(struct irq_work *work)
{
	struct call *call = container_of(work, struct call, irq_work);

	kcov_finish_switch(current);
	call->function(call->argument);
	kcov_prepare_switch(current);
	WRITE_ONCE(call->done, true);
}

/* On top of the calling task, or of the softirq that it is in. */
void rkcov_test_in_hardirq(void (*function)(void *), void *argument)
{
	struct call call = { .function = function, .argument = argument };

	call.irq_work = IRQ_WORK_INIT_HARD(in_irq_work);
	preempt_disable();
	kcov_prepare_switch(current);
	irq_work_queue(&call.irq_work);
	while (!READ_ONCE(call.done) || irq_work_is_busy(&call.irq_work))
		cpu_relax();
	kcov_finish_switch(current);
	preempt_enable();
}

static void in_work(struct work_struct *work)
{
	struct call *call = container_of(work, struct call, work);
	struct task_struct *task = call->task;

	call->function(call->argument);
	smp_store_release(&call->done, true);
	wake_up_process(task);
}

static void wait_for(struct call *call)
{
	for (;;) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		if (smp_load_acquire(&call->done))
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
}

/* In a worker of the system's workqueue. */
void rkcov_test_in_work(void (*function)(void *), void *argument)
{
	struct call call = { .function = function, .argument = argument, .task = current };

	INIT_WORK_ONSTACK(&call.work, in_work);
	kcov_prepare_switch(current);
	schedule_work(&call.work);
	kcov_finish_switch(current);
	wait_for(&call);
	destroy_work_on_stack(&call.work);
}

#define KTHREADS 16

/* A thread runs one call after the other; between two it sleeps, in a section or not. */
static struct kthread {
	struct task_struct *task;
	/* Written by the caller, cleared by the thread. */
	struct call *call;
	bool end;
} kthreads[KTHREADS];
static DEFINE_MUTEX(kthreads_lock);

static int kthread_loop(void *data)
{
	struct kthread *thread = data;
	struct task_struct *caller;
	struct call *call;

	while (!READ_ONCE(thread->end)) {
		/* Until a call: a section that is open records neither sleeping nor waking up. */
		kcov_prepare_switch(current);
		set_current_state(TASK_IDLE);
		call = READ_ONCE(thread->call);
		if (!call && !READ_ONCE(thread->end))
			schedule();
		__set_current_state(TASK_RUNNING);
		if (!call)
			continue;
		caller = call->task;
		kcov_finish_switch(current);
		call->function(call->argument);
		kcov_prepare_switch(current);
		WRITE_ONCE(thread->call, NULL);
		smp_store_release(&call->done, true);
		wake_up_process(caller);
	}
	/* Nor the way to the end of the thread. */
	kcov_prepare_switch(current);
	return 0;
}

int rkcov_test_in_kthread(unsigned int number, void (*function)(void *), void *argument)
{
	struct call call = { .function = function, .argument = argument, .task = current };
	struct kthread *thread = &kthreads[number];
	int error = 0;

	mutex_lock(&kthreads_lock);
	if (!thread->task) {
		struct task_struct *task;

		thread->end = false;
		task = kthread_create(kthread_loop, thread, "rkcov_test/%u", number);
		if (IS_ERR(task))
			error = PTR_ERR(task);
		else
			thread->task = get_task_struct(task);
	}
	if (!error) {
		WRITE_ONCE(thread->call, &call);
		wake_up_process(thread->task);
		wait_for(&call);
	}
	mutex_unlock(&kthreads_lock);
	return error;
}

int rkcov_test_end_kthread(unsigned int number)
{
	struct kthread *thread = &kthreads[number];
	int error = -ENOENT;

	mutex_lock(&kthreads_lock);
	if (thread->task) {
		WRITE_ONCE(thread->end, true);
		error = kthread_stop(thread->task);
		put_task_struct(thread->task);
		thread->task = NULL;
	}
	mutex_unlock(&kthreads_lock);
	return error;
}

/* How far the kernel was moved from where it was linked for. */
unsigned long rkcov_test_moved_by(void)
{
#ifdef CONFIG_RANDOMIZE_BASE
	return kaslr_offset();
#else
	return 0;
#endif
}

/* For kfree(). */
void *rkcov_test_alloc(size_t bytes)
{
	return kmalloc(bytes, GFP_KERNEL);
}

/* Its type differs between versions of Linux. */
u64 rkcov_test_common_handle(void)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
	return kcov_common_handle();
#else
	return kcov_common_handle().val;
#endif
}

extern const struct file_operations rkcov_test_operations;

static int __init rkcov_test_init(void)
{
	debugfs_create_file_unsafe("rkcov_test", 0600, NULL, NULL, &rkcov_test_operations);
	return 0;
}
device_initcall(rkcov_test_init);
