/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Stress of the kcov inside of a process: threads, forks, kill -9, handles, nested sections, hostile
 * clients, modules that come and go, closes in mid-section; and what must hold meanwhile.
 *
 * Time is cut into worlds. A world is a family of processes, some of which are killed. A process has
 * workers, clients and a hostile client, all of them threads. Each client has slots, which nobody
 * else in the family has: markers (places whose PCs are known) and handles. It has its workers run
 * its markers in sections of its handles, and knows how often each ran.
 *
 * - Nothing foreign: a PC in a buffer is that of a marker of the slot that is listened to.
 * - Nothing lost: each marker stands there as often as it ran, or the difference was counted.
 * - No partial record: what the count covers has been written, at any time.
 * - Nothing after the end: a buffer does not change once its descriptor is disabled.
 * - Nothing left: handles are free for the next client at once; at a world's end no handle, file or
 *   byte is in use.
 *
 * Usage: stress SECONDS PLUGIN [SEED]. Exit status 0 if all held.
 */
#define _GNU_SOURCE
#include "rkcov_internal.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* subject.S */
extern const char subject_markers[], subject_second_marker[], subject_pc_marker[];
extern const char subject_pc_const_cmp4[];
extern const uint32_t subject_first_guard[];
void subject_const_cmp4(uint32_t constant, uint32_t argument);

enum {
	PER_SLOT = 16,	     /* markers of a slot */
	PROCESSES = 4,	     /* of a world, at a time */
	CLIENTS = 3,	     /* of a process; two slots each */
	PROCESS_SLOTS = 8,   /* the hostile client has the last two */
	NOISE = 900,	     /* markers from here on are nobody's */
	WORKERS = 3,
	HANDLES = 8,	     /* of a slot */
	MOST_JOBS = 48,	     /* of a round */
	QUEUE = 1024,
	WORLD_SECONDS = 5,
	LEFT = 1 << 20,	     /* bytes that one who is killed leaves at most */
	STUCK_SECONDS = 300,
	ROOM = 1 << 15,	     /* words of a buffer in which a round has room */
	TYPE_CONST_4 = 5,    /* KCOV_CMP_CONST | KCOV_CMP_SIZE(2) */
};

static const char *plugin_path;

/* What was done so far, by everybody. */
static struct board {
	atomic_ulong worlds, processes, kills, lives, rounds, sections, records, full, stale, locals,
		uniques, servers, spawns, plugins, signals, scribbles, closes, left, failures;
	atomic_ulong killed; /* in this world, children of clients too */
	atomic_int stop;     /* no new rounds in this world */
	bool may_kill;
} *board;

static void failed(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void failed(const char *format, ...)
{
	char text[512];
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	board->failures++;
	fprintf(stderr, "stress: %d: %.*s\n", getpid(), length, text);
	fflush(stderr);
	_exit(3);
}

#define CHECK(condition, ...)                                                                     \
	do {                                                                                      \
		if (!(condition))                                                                 \
			failed(__VA_ARGS__);                                                      \
	} while (0)

/* xorshift64*: each thread has its own. */
static __thread uint64_t dice = 1;

static unsigned roll(unsigned sides)
{
	dice ^= dice >> 12;
	dice ^= dice << 25;
	dice ^= dice >> 27;
	return (unsigned)((dice * 0x2545f4914f6cdd1dull) >> 33) % sides;
}

static void nap(unsigned microseconds)
{
	struct timespec time = { .tv_nsec = 1000l * microseconds };

	nanosleep(&time, NULL);
}

/* Nobody is left over, however a parent ends. */
static void dies_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(6);
}

static uint64_t handle_of(unsigned slot, unsigned number)
{
	return RKCOV_SUBSYSTEM_USER | slot << 8 | number;
}

static void run_marker(unsigned marker)
{
	size_t stride = subject_second_marker - subject_markers;

	((void (*)(void))(subject_markers + marker * stride))();
}

/* Code that nobody may ever see. */
static void noise(void)
{
	kcov_remote_start(handle_of(0xffff, 1));
	run_marker(NOISE + 3);
	kcov_remote_stop();
}

static void on_signal(int signal)
{
	(void)signal;
	noise();
	board->signals++;
}

/* Who crashes says where before it does so once more, unheard. */
static void on_crash(int signal, siginfo_t *info, void *context)
{
	const greg_t *registers = ((const ucontext_t *)context)->uc_mcontext.gregs;
	void *frames[64];
	int count = backtrace(frames, 64);

	dprintf(2, "stress: %d: thread %d: signal %d, code %d, address %p, at %#llx, stack %#llx\n",
		getpid(), gettid(), signal, info->si_code, info->si_addr,
		(unsigned long long)registers[REG_RIP], (unsigned long long)registers[REG_RSP]);
	backtrace_symbols_fd(frames, count, 2);
}

static void tell_of_crashes(void)
{
	struct sigaction action = { .sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_RESETHAND };
	void *frame;

	/* The first one loads a library. */
	backtrace(&frame, 1);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGILL, &action, NULL);
}

/*
 * Jobs: a section of work for a client.
 */
struct job {
	unsigned slot;
	uint64_t handle, seed;
	/* What was done when `done` is set. */
	unsigned ran[PER_SLOT], in_plugin[PER_SLOT], comparisons;
	uint64_t plugin;
	atomic_bool done;
};

static struct queue {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct job *jobs[QUEUE];
	unsigned first, count;
} queue = { .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER };

static void own(struct job *job)
{
	for (unsigned i = roll(2 * PER_SLOT); i; i--) {
		unsigned marker = roll(PER_SLOT);

		run_marker(job->slot * PER_SLOT + marker);
		job->ran[marker]++;
	}
	for (unsigned i = roll(8); i; i--)
		subject_const_cmp4(0xc0de0000u | job->slot, job->comparisons++);
}

static void in_plugin(struct job *job)
{
	void *plugin = dlopen(plugin_path, RTLD_NOW | RTLD_LOCAL);
	void (*run)(unsigned);
	uint64_t (*pc)(void);

	CHECK(plugin, "%s", dlerror());
	*(void **)&run = dlsym(plugin, "plugin_run");
	*(void **)&pc = dlsym(plugin, "plugin_pc");
	CHECK(run && pc, "%s", dlerror());
	job->plugin = pc();
	for (unsigned i = roll(PER_SLOT); i; i--) {
		unsigned marker = roll(PER_SLOT);

		run(job->slot * PER_SLOT + marker);
		job->in_plugin[marker]++;
	}
	dlclose(plugin);
	board->plugins++;
}

static void work(struct job *job)
{
	unsigned depth;

	kcov_remote_start(job->handle);
	own(job);
	switch (roll(8)) {
	case 0:
		noise();
		break;
	case 1:
		/* Sections of the client in each other. */
		depth = 1 + roll(5);
		for (unsigned i = 0; i < depth; i++) {
			kcov_remote_start(job->handle);
			own(job);
		}
		for (unsigned i = 0; i < depth; i++) {
			kcov_remote_stop();
			own(job);
		}
		break;
	case 2:
		/* Deeper than can be suspended. */
		for (unsigned i = 0; i < 12; i++) {
			kcov_remote_start(handle_of(0xffff, i));
			run_marker(NOISE + i);
		}
		for (unsigned i = 0; i < 12; i++) {
			run_marker(NOISE + i);
			kcov_remote_stop();
		}
		break;
	case 3:
		in_plugin(job);
		break;
	case 4:
		nap(roll(2000));
		break;
	case 5:
		sched_yield();
		break;
	}
	own(job);
	kcov_remote_stop();
	board->sections++;
	atomic_store_explicit(&job->done, true, memory_order_release);
}

static void *worker(void *seed)
{
	dice = (uintptr_t)seed;
	for (;;) {
		struct job *job;

		pthread_mutex_lock(&queue.lock);
		while (!queue.count)
			pthread_cond_wait(&queue.more, &queue.lock);
		job = queue.jobs[queue.first++ % QUEUE];
		queue.count--;
		pthread_mutex_unlock(&queue.lock);
		dice = job->seed;
		work(job);
	}
	return NULL;
}

/* A thread that is made for one job, and knows the handle by inheritance alone. */
static void *inheritor(void *data)
{
	struct job *job = data;

	dice = job->seed;
	CHECK(kcov_common_handle() == job->handle, "the common handle is %#llx and not %#llx",
	      (unsigned long long)kcov_common_handle(), (unsigned long long)job->handle);
	work(job);
	return NULL;
}

/*
 * Clients.
 */
struct client {
	unsigned first_slot;
	uint64_t seed;
	unsigned process;
	/* Of the descriptor that it has open. */
	int fd;
	uint64_t *buffer;
	size_t words;
	struct rkcov_drops drops;
	/* Of the round. */
	unsigned slot, mode;
	bool has_room;
	uint32_t handles;
	struct job jobs[2][MOST_JOBS];
	unsigned count[2];
};

static size_t bytes_of(const struct client *client)
{
	return (client->words * 8 + 4095) / 4096 * 4096;
}

static void open_descriptor(struct client *client, bool has_room)
{
	client->fd = rkcov_open();
	CHECK(client->fd >= 0, "rkcov_open(): %m");
	client->words = has_room ? ROOM : 2 + roll(200);
	CHECK(!rkcov_ioctl(client->fd, KCOV_INIT_TRACE, client->words), "KCOV_INIT_TRACE: %m");
	client->buffer = rkcov_mmap(NULL, bytes_of(client), PROT_READ | PROT_WRITE, MAP_SHARED,
				    client->fd, 0);
	CHECK(client->buffer != MAP_FAILED, "rkcov_mmap(): %m");
	client->has_room = has_room;
	memset(&client->drops, 0, sizeof(client->drops));
}

static void close_descriptor(struct client *client)
{
	if (roll(2)) {
		munmap(client->buffer, bytes_of(client));
		CHECK(!rkcov_close(client->fd), "rkcov_close(): %m");
	} else {
		CHECK(!rkcov_close(client->fd), "rkcov_close(): %m");
		munmap(client->buffer, bytes_of(client));
	}
	client->buffer = NULL;
}

static void listen(struct client *client, unsigned slot)
{
	struct {
		struct kcov_remote_arg head;
		uint64_t handles[HANDLES];
	} argument = { .head = { 0 } };
	uint32_t most = client->has_room ? 4096 : 0;
	uint64_t *handles = (uint64_t *)((char *)&argument + sizeof(argument.head));

	client->slot = slot;
	client->mode = roll(4) ? KCOV_TRACE_PC : KCOV_TRACE_CMP;
	client->handles = 1 + roll(HANDLES);
	argument.head.trace_mode = client->mode;
	argument.head.area_size = most ? most : 5 + roll(40);
	argument.head.num_handles = client->handles;
	argument.head.common_handle = slot + 1;
	for (unsigned i = 0; i < client->handles; i++)
		handles[i] = handle_of(slot, i);
	memset(client->buffer, 0, client->words * 8);
	CHECK(!rkcov_ioctl(client->fd, KCOV_REMOTE_ENABLE, (unsigned long)&argument),
	      "KCOV_REMOTE_ENABLE for slot %u: %m", slot);
}

static void unlisten(struct client *client)
{
	CHECK(!rkcov_ioctl(client->fd, KCOV_DISABLE, 0), "KCOV_DISABLE: %m");
}

/*
 * Threads for which nobody waits are born so: before 2.43, glibc's pthread_detach() reads what it has
 * of the thread after the thread may have ended, and its memory gone or become another's (bug 19951).
 */
static pthread_attr_t detached;
#pragma GCC poison pthread_detach

static void post(struct client *client, unsigned part, unsigned count)
{
	client->count[part] = count;
	for (unsigned i = 0; i < count; i++) {
		struct job *job = &client->jobs[part][i];
		bool is_common = !roll(6);
		pthread_t thread;

		memset(job, 0, sizeof(*job));
		job->slot = client->slot;
		job->handle = handle_of(client->slot, roll(client->handles));
		job->seed = 1 + roll(1u << 30);
		if (is_common) {
			job->handle = client->slot + 1;
			CHECK(!pthread_create(&thread, &detached, inheritor, job), "pthread_create()");
			continue;
		}
		pthread_mutex_lock(&queue.lock);
		CHECK(queue.count < QUEUE, "the queue is full");
		queue.jobs[(queue.first + queue.count++) % QUEUE] = job;
		pthread_cond_signal(&queue.more);
		pthread_mutex_unlock(&queue.lock);
	}
}

/* The marker of a slot that has this PC, among those that begin at `first`; or PER_SLOT. */
static unsigned marker_at(uint64_t pc, uint64_t first, unsigned slot)
{
	uint64_t stride = subject_second_marker - subject_markers;
	uint64_t marker = (pc - first) / stride - slot * PER_SLOT;

	return pc >= first && !((pc - first) % stride) && marker < PER_SLOT ? marker : PER_SLOT;
}

/* What stands in a buffer. Dies of what may not. */
struct content {
	uint64_t records;
	unsigned main[PER_SLOT], plugin[PER_SLOT];
};

static struct content look(const struct client *client, const char *when)
{
	const uint64_t *words = client->buffer;
	unsigned length = client->mode == KCOV_TRACE_PC ? 1 : 4;
	struct content content = { .records = __atomic_load_n(words, __ATOMIC_ACQUIRE) };

	CHECK(content.records <= (client->words - 1) / length, "%s: a count of %#llx in %zu words",
	      when, (unsigned long long)content.records, client->words);
	for (uint64_t i = 0; i < content.records; i++) {
		const uint64_t *record = words + 1 + i * length;
		unsigned marker, part, n;

		if (client->mode == KCOV_TRACE_CMP) {
			CHECK(record[0] == TYPE_CONST_4 &&
				      record[1] == (0xc0de0000u | client->slot) &&
				      record[3] == (uint64_t)subject_pc_const_cmp4,
			      "%s: slot %u has the comparison %#llx %#llx %#llx %#llx", when,
			      client->slot, (unsigned long long)record[0],
			      (unsigned long long)record[1], (unsigned long long)record[2],
			      (unsigned long long)record[3]);
			continue;
		}
		marker = marker_at(record[0], (uint64_t)subject_pc_marker, client->slot);
		if (marker < PER_SLOT) {
			content.main[marker]++;
			continue;
		}
		for (part = 0; part < 2 && marker == PER_SLOT; part++)
			for (n = 0; n < client->count[part] && marker == PER_SLOT; n++) {
				uint64_t first = client->jobs[part][n].plugin;

				if (first)
					marker = marker_at(record[0], first, client->slot);
			}
		CHECK(marker < PER_SLOT, "%s: foreign: slot %u has the PC %#llx (markers at %p)",
		      when, client->slot, (unsigned long long)record[0], subject_pc_marker);
		content.plugin[marker]++;
	}
	return content;
}

/* Waits for a round's jobs, and looks at the buffer all the time. */
static void wait_for(struct client *client, unsigned part, bool watch)
{
	for (unsigned i = 0; i < client->count[part]; i++) {
		time_t began = time(NULL);

		while (!atomic_load_explicit(&client->jobs[part][i].done, memory_order_acquire)) {
			uint64_t count = __atomic_load_n(client->buffer, __ATOMIC_ACQUIRE);
			unsigned length = client->mode == KCOV_TRACE_PC ? 1 : 4;

			for (uint64_t word = 1; watch && word <= count * length; word++) {
				CHECK(word < client->words, "a count of %llu records in %zu words",
				      (unsigned long long)count, client->words);
				/* Of a comparison, the second operand may be 0. */
				CHECK(client->buffer[word] || (length == 4 && word % 4 == 3),
				      "word %llu below the count was not written",
				      (unsigned long long)word);
			}
			CHECK(time(NULL) - began < STUCK_SECONDS / 2, "a job does not end");
			nap(50);
		}
	}
}

/* Records that jobs made, and the drops since the last time. */
static uint64_t made_by(const struct client *client, unsigned part, struct content *made)
{
	uint64_t records = 0;

	memset(made, 0, sizeof(*made));
	for (unsigned i = 0; i < client->count[part]; i++) {
		const struct job *job = &client->jobs[part][i];

		for (unsigned m = 0; m < PER_SLOT; m++) {
			made->main[m] += job->ran[m];
			made->plugin[m] += job->in_plugin[m];
			if (client->mode == KCOV_TRACE_PC)
				records += job->ran[m] + job->in_plugin[m];
		}
		if (client->mode == KCOV_TRACE_CMP)
			records += job->comparisons;
	}
	return records;
}

static struct rkcov_drops dropped(struct client *client)
{
	struct rkcov_drops now, since;

	CHECK(!rkcov_drops(client->fd, &now), "rkcov_drops(): %m");
	since = (struct rkcov_drops){
		.full = now.full - client->drops.full,
		.stale = now.stale - client->drops.stale,
		.no_area = now.no_area - client->drops.no_area,
	};
	client->drops = now;
	board->full += since.full;
	board->stale += since.stale;
	return since;
}

/* All of this part's jobs are done, and were begun and ended while somebody listened. */
static void settle(struct client *client, unsigned part, bool others_are_stale)
{
	struct content made, found = look(client, "settled");
	uint64_t records = made_by(client, part, &made);
	struct rkcov_drops drops = dropped(client);

	/* What the others dropped cannot be told from ours. */
	CHECK((found.records + drops.full == records ||
	       (others_are_stale && found.records <= records &&
		found.records + drops.full >= records)) &&
		      !drops.no_area,
	      "slot %u: %llu records were made, %llu are there, %llu found no room, %llu no area",
	      client->slot, (unsigned long long)records, (unsigned long long)found.records,
	      (unsigned long long)drops.full, (unsigned long long)drops.no_area);
	CHECK(others_are_stale || !drops.stale, "%llu stale records in a round without an end",
	      (unsigned long long)drops.stale);
	if (client->has_room) {
		CHECK(!drops.full, "%llu records found no room", (unsigned long long)drops.full);
		for (unsigned m = 0; m < PER_SLOT && client->mode == KCOV_TRACE_PC; m++)
			CHECK(found.main[m] == made.main[m] && found.plugin[m] == made.plugin[m],
			      "slot %u: marker %u ran %u + %u times and is there %u + %u times",
			      client->slot, m, made.main[m], made.plugin[m], found.main[m],
			      found.plugin[m]);
	}
	board->records += found.records;
}

/* Rounds of a client that listens. */
static void remote_round(struct client *client)
{
	unsigned slot = client->first_slot + roll(2);
	uint64_t records, count, made_records;
	struct content made;
	struct rkcov_drops drops;
	uint64_t *copy;

	client->count[0] = client->count[1] = 0;
	listen(client, slot);
	post(client, 0, 1 + roll(MOST_JOBS));
	switch (roll(3)) {
	case 0:
		wait_for(client, 0, true);
		unlisten(client);
		settle(client, 0, false);
		return;
	case 1:
		/* Disabled in the middle: what is there stays as it is. */
		nap(roll(3000));
		unlisten(client);
		count = client->words * 8;
		copy = malloc(count);
		CHECK(copy, "no memory");
		memcpy(copy, client->buffer, count);
		wait_for(client, 0, false);
		CHECK(!memcmp(copy, client->buffer, count), "a buffer changed after the end");
		free(copy);
		records = look(client, "disabled").records;
		made_records = made_by(client, 0, &made);
		drops = dropped(client);
		CHECK(records + drops.full + drops.stale <= made_records && !drops.no_area,
		      "%llu records of %llu, %llu full, %llu stale, %llu without an area",
		      (unsigned long long)records, (unsigned long long)made_records,
		      (unsigned long long)drops.full, (unsigned long long)drops.stale,
		      (unsigned long long)drops.no_area);
		board->records += records;
		return;
	default:
		/* In the middle, the same descriptor begins to listen to other handles. */
		nap(roll(3000));
		unlisten(client);
		listen(client, client->first_slot + 1 - (slot - client->first_slot));
		post(client, 1, 1 + roll(MOST_JOBS));
		wait_for(client, 1, false);
		wait_for(client, 0, false);
		unlisten(client);
		/* What the first part made is foreign now. */
		client->count[0] = 0;
		settle(client, 1, true);
	}
}

/* Collection from the thread itself, with sections in it that are not its own. */
static void local_round(struct client *client)
{
	unsigned slot = client->first_slot, length = 1 + roll(200), ran[200];
	const uint64_t *words = client->buffer;
	uint64_t most = client->words - 1;

	memset(client->buffer, 0, client->words * 8);
	CHECK(!rkcov_ioctl(client->fd, KCOV_ENABLE, KCOV_TRACE_PC), "KCOV_ENABLE: %m");
	for (unsigned i = 0; i < length; i++) {
		ran[i] = roll(PER_SLOT);
		run_marker(slot * PER_SLOT + ran[i]);
		if (!roll(16))
			noise();
	}
	unlisten(client);
	CHECK(words[0] == (length < most ? length : most), "%llu of %u local records",
	      (unsigned long long)words[0], length);
	for (unsigned i = 0; i < words[0]; i++)
		CHECK(marker_at(words[1 + i], (uint64_t)subject_pc_marker, slot) == ran[i],
		      "local record %u is %#llx", i, (unsigned long long)words[1 + i]);
	dropped(client);
	board->locals++;
}

static void unique_round(struct client *client)
{
	enum { BITMAP = 512 };
	uint64_t *trace = client->buffer + BITMAP;
	unsigned slot = client->first_slot, set = 0, ran = 0;
	uint64_t first = *subject_first_guard, seen[PER_SLOT] = { 0 };

	if (client->words < BITMAP + 2 + PER_SLOT || first + 1024 >= 64 * BITMAP)
		return;
	memset(client->buffer, 0, client->words * 8);
	CHECK(!rkcov_ioctl(client->fd, KCOV_UNIQUE_ENABLE, BITMAP), "KCOV_UNIQUE_ENABLE: %m");
	for (unsigned i = roll(100); i; i--) {
		unsigned marker = roll(PER_SLOT);

		run_marker(slot * PER_SLOT + marker);
		ran += !seen[marker];
		seen[marker] = 1;
		if (!roll(16))
			noise();
	}
	unlisten(client);
	for (unsigned word = 0; word < BITMAP; word++)
		set += __builtin_popcountll(client->buffer[word]);
	CHECK(set == ran && trace[0] == ran, "%u markers ran, %u bits are set, %llu records", ran,
	      set, (unsigned long long)trace[0]);
	for (unsigned i = 0; i < ran; i++) {
		unsigned marker = marker_at(trace[1 + i], (uint64_t)subject_pc_marker, slot);
		uint64_t bit = first + slot * PER_SLOT + marker;

		CHECK(marker < PER_SLOT && seen[marker]++ == 1, "unique: the PC %#llx",
		      (unsigned long long)trace[1 + i]);
		CHECK(client->buffer[bit / 64] >> bit % 64 & 1, "unique: bit %llu is not set",
		      (unsigned long long)bit);
	}
	dropped(client);
	board->uniques++;
}

/* A child collects into the parent's buffer, and perhaps dies of it. */
static void server_round(struct client *client)
{
	unsigned slot = client->first_slot, length = 1 + roll(200);
	bool is_killed = board->may_kill && !roll(3), disables = roll(2);
	const uint64_t *words = client->buffer;
	uint64_t most = client->words - 1, records;
	pid_t child, process_id = getpid();
	int status;

	memset(client->buffer, 0, client->words * 8);
	child = fork();
	CHECK(child >= 0, "fork(): %m");
	if (!child) {
		dies_with(process_id);
		if (rkcov_ioctl(client->fd, KCOV_ENABLE, KCOV_TRACE_PC))
			_exit(4);
		for (unsigned i = 0; i < length; i++)
			run_marker(slot * PER_SLOT + i % PER_SLOT);
		while (is_killed)
			run_marker(slot * PER_SLOT);
		if (disables && rkcov_ioctl(client->fd, KCOV_DISABLE, 0))
			_exit(5);
		_exit(0);
	}
	if (is_killed) {
		nap(roll(3000));
		kill(child, SIGKILL);
		board->killed++;
	}
	CHECK(waitpid(child, &status, 0) == child, "waitpid(): %m");
	CHECK(is_killed || !status, "a child ended with status %#x", status);
	records = words[0];
	CHECK(records <= most, "a child's count is %#llx", (unsigned long long)records);
	CHECK(is_killed || records == (length < most ? length : most), "%llu of %u of a child",
	      (unsigned long long)records, length);
	for (uint64_t i = 1; i <= records; i++) {
		bool may_be_missing = is_killed && i == records && !words[i];

		CHECK(may_be_missing ||
			      marker_at(words[i], (uint64_t)subject_pc_marker, slot) < PER_SLOT,
		      "a child's record %llu is %#llx", (unsigned long long)i,
		      (unsigned long long)words[i]);
	}
	/* Free at once. */
	CHECK(!rkcov_ioctl(client->fd, KCOV_ENABLE, KCOV_TRACE_PC), "after a child: %m");
	unlisten(client);
	dropped(client);
	board->servers++;
}

static void spawn_round(void)
{
	char *arguments[] = { "true", NULL }, *environment[] = { NULL };
	pid_t child;
	int status;

	CHECK(!posix_spawnp(&child, "true", NULL, NULL, arguments, environment), "posix_spawn()");
	CHECK(waitpid(child, &status, 0) == child && !status, "true: status %#x", status);
	board->spawns++;
}

/* The life of a thread that is a client; the next one has the same slots at once. */
static void *live(void *data)
{
	struct client *client = data;

	dice = client->seed;
	open_descriptor(client, roll(4));
	for (unsigned rounds = roll(12); rounds && !board->stop; rounds--) {
		switch (roll(8)) {
		case 0:
			local_round(client);
			break;
		case 1:
			unique_round(client);
			break;
		case 2:
			server_round(client);
			break;
		case 3:
			if (!roll(4))
				spawn_round();
			break;
		default:
			remote_round(client);
		}
		board->rounds++;
	}
	board->lives++;
	client->seed = dice;
	client->count[0] = client->count[1] = 0;
	if (!roll(3)) {
		close_descriptor(client);
		return NULL;
	}
	/* It ends while it listens, with the file closed or not, and the sections go on. */
	listen(client, client->first_slot);
	post(client, 0, 1 + roll(MOST_JOBS));
	nap(roll(3000));
	if (roll(2)) {
		CHECK(!rkcov_close(client->fd), "rkcov_close(): %m");
		client->fd = -1;
		board->closes++;
		nap(roll(1000));
	}
	return NULL;
}

static void *client_thread(void *data)
{
	struct client *client = data;

	while (!board->stop) {
		pthread_t thread;

		CHECK(!pthread_create(&thread, NULL, live, client), "pthread_create()");
		pthread_join(thread, NULL);
		if (client->buffer) {
			wait_for(client, 0, false);
			look(client, "after the end");
			munmap(client->buffer, bytes_of(client));
			client->buffer = NULL;
			if (client->fd >= 0)
				CHECK(!rkcov_close(client->fd), "rkcov_close(): %m");
		}
	}
	return NULL;
}

/* A client that writes over its buffer. */
struct scribbler {
	uint64_t *words;
	size_t count;
	uint64_t seed;
	atomic_bool stop;
};

static void *scribble(void *data)
{
	static const uint64_t favourites[] = { 0, 1, 2, 1ull << 31, 1ull << 61, INT64_MAX, UINT64_MAX };
	struct scribbler *scribbler = data;

	dice = scribbler->seed;
	while (!scribbler->stop) {
		size_t word = roll(2) ? 0 : roll(scribbler->count);
		uint64_t value = roll(2) ? favourites[roll(7)] : roll(scribbler->count);

		__atomic_store_n(&scribbler->words[word], value, __ATOMIC_RELAXED);
		board->scribbles++;
	}
	return NULL;
}

static void *hostile_thread(void *data)
{
	static const unsigned long arguments[] = { 0, 1, 2, 0x1000, -1ul };
	struct client *client = data;
	struct rkcov_drops drops;

	dice = client->seed;
	while (!board->stop) {
		struct scribbler scribbler = { .seed = 1 + roll(1u << 30) };
		pthread_t thread;

		open_descriptor(client, roll(2));
		client->count[0] = client->count[1] = 0;
		listen(client, client->first_slot);
		scribbler.words = client->buffer;
		scribbler.count = client->words;
		CHECK(!pthread_create(&thread, NULL, scribble, &scribbler), "pthread_create()");
		post(client, 0, MOST_JOBS);
		for (unsigned i = 0; i < 20; i++) {
			unsigned long argument = arguments[roll(5)];

			/* Each is refused: the state, the argument, or the number is wrong. */
			CHECK(rkcov_ioctl(client->fd, KCOV_REMOTE_ENABLE, argument) &&
				      rkcov_ioctl(client->fd, KCOV_INIT_TRACE, argument) &&
				      rkcov_ioctl(client->fd, KCOV_ENABLE, argument) &&
				      rkcov_ioctl(client->fd, _IO('c', 99), argument) &&
				      rkcov_ioctl(client->fd, KCOV_DISABLE, 7),
			      "a bad call succeeded with %#lx", argument);
		}
		wait_for(client, 0, false);
		scribbler.stop = true;
		pthread_join(thread, NULL);
		/* Whoever comes to its senses is served. */
		memset(client->buffer, 0, client->words * 8);
		CHECK(!rkcov_ioctl(client->fd, KCOV_RESET_TRACE, 0), "KCOV_RESET_TRACE: %m");
		drops = dropped(client);
		CHECK(!drops.no_area && !drops.stale, "stale, or without an area");
		post(client, 0, 8);
		wait_for(client, 0, true);
		unlisten(client);
		settle(client, 0, false);
		close_descriptor(client);
	}
	return NULL;
}

/*
 * Processes and worlds.
 */
static void process(unsigned number, uint64_t seed)
{
	/* Static: nothing of it is freed before the last thread is done with it. */
	static struct client clients[CLIENTS + 1];
	pthread_t threads[CLIENTS + 1], workers[WORKERS];

	dice = seed;
	CHECK(!pthread_attr_init(&detached) &&
		      !pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED),
	      "pthread_attr_init()");
	for (unsigned i = 0; i < WORKERS; i++)
		CHECK(!pthread_create(&workers[i], NULL, worker, (void *)(uintptr_t)(1 + roll(1u << 30))),
		      "pthread_create()");
	for (unsigned i = 0; i <= CLIENTS; i++) {
		clients[i].first_slot = number * PROCESS_SLOTS + 2 * i;
		clients[i].seed = 1 + roll(1u << 30);
		CHECK(!pthread_create(&threads[i], NULL,
				      i < CLIENTS ? client_thread : hostile_thread, &clients[i]),
		      "pthread_create()");
	}
	while (!board->stop) {
		pthread_kill(workers[roll(WORKERS)], SIGUSR1);
		nap(roll(2000));
	}
	for (unsigned i = 0; i <= CLIENTS; i++)
		pthread_join(threads[i], NULL);
	exit(0);
}

static unsigned open_files(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static pid_t begin_process(unsigned number)
{
	uint64_t seed = 1 + roll(1u << 30);
	pid_t child, parent = getpid();

	fflush(NULL);
	child = fork();
	CHECK(child >= 0, "fork(): %m");
	if (!child) {
		dies_with(parent);
		process(number, seed);
	}
	board->processes++;
	return child;
}

/* Every handle of every slot can be had, and is free again. */
static void all_handles_are_free(void)
{
	struct client client = { .handles = 0 };

	open_descriptor(&client, true);
	for (unsigned slot = 0; slot < PROCESSES * PROCESS_SLOTS; slot++) {
		do {
			listen(&client, slot);
			unlisten(&client);
		} while (client.handles < HANDLES);
	}
	close_descriptor(&client);
}

static void world(unsigned long number)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	time_t end = time(NULL) + WORLD_SECONDS;
	uint64_t bytes_before, bytes, handles;
	pid_t children[PROCESSES];
	/* Nobody is killed; children of clients; processes too. */
	bool with_kills = number % 3 == 2;
	unsigned files;
	int status;

	sigaction(SIGUSR1, &action, NULL);
	board->stop = 0;
	board->killed = 0;
	board->may_kill = number % 3;
	/* The first ones make the family and its tables. */
	all_handles_are_free();
	files = open_files();
	rkcov_usage(&bytes_before, &handles);
	for (unsigned i = 0; i < PROCESSES; i++)
		children[i] = begin_process(i);
	while (time(NULL) < end) {
		nap(100000 + roll(300000));
		if (with_kills) {
			unsigned victim = roll(PROCESSES);

			CHECK(!kill(children[victim], SIGKILL), "kill(): %m");
			CHECK(waitpid(children[victim], &status, 0) == children[victim],
			      "waitpid(): %m");
			CHECK(WIFSIGNALED(status), "a process ended with status %#x", status);
			board->kills++;
			board->killed++;
			children[victim] = begin_process(victim);
		}
		for (unsigned i = 0; i < PROCESSES; i++)
			CHECK(!waitpid(children[i], &status, WNOHANG),
			      "a process ended with status %#x", status);
	}
	board->stop = 1;
	for (unsigned i = 0; i < PROCESSES; i++) {
		CHECK(waitpid(children[i], &status, 0) == children[i], "waitpid(): %m");
		CHECK(!status, "a process ended with status %#x", status);
	}
	all_handles_are_free();
	/* Files that ended with their processes are found when somebody looks. */
	rkcov_forget(UINT64_MAX);
	rkcov_usage(&bytes, &handles);
	CHECK(!handles, "%llu handles are left", (unsigned long long)handles);
	CHECK(open_files() == files, "%u files are left", open_files() - files);
	/* Who is killed inside a call or a section leaves what it held to the family. */
	CHECK(bytes >= bytes_before && bytes - bytes_before <= LEFT * board->killed,
	      "%llu bytes are left by %lu who were killed",
	      (unsigned long long)(bytes - bytes_before), board->killed);
	board->left += bytes - bytes_before;
	exit(0);
}

static void tell(void)
{
	printf("%lu worlds, %lu processes (%lu killed), %lu lives (%lu closed in mid-section), "
	       "%lu rounds, %lu sections, %lu records, %lu without room, %lu stale, "
	       "%lu local, %lu unique, %lu fork servers, %lu spawned, %lu plugins, %lu signals, "
	       "%lu words scribbled, %lu bytes left by killed\n",
	       board->worlds, board->processes, board->kills, board->lives, board->closes,
	       board->rounds, board->sections, board->records, board->full, board->stale,
	       board->locals, board->uniques, board->servers, board->spawns, board->plugins,
	       board->signals, board->scribbles, board->left);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	time_t began = time(NULL), told = began;
	pid_t parent = getpid();
	long seconds = argc > 2 ? atol(argv[1]) : 0;

	if (seconds <= 0) {
		fprintf(stderr, "usage: %s SECONDS PLUGIN [SEED]\n", argv[0]);
		return 2;
	}
	plugin_path = argv[2];
	tell_of_crashes();
	dice = argc > 3 ? strtoull(argv[3], NULL, 0) | 1 : (uint64_t)began * 2 + 1;
	printf("seed %llu\n", (unsigned long long)dice);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED) {
		perror("mmap");
		return 2;
	}
	while (time(NULL) - began < seconds) {
		time_t start = time(NULL);
		int status = 0;
		pid_t child, ended;

		roll(2);
		fflush(NULL);
		child = fork();
		if (!child) {
			setpgid(0, 0);
			dies_with(parent);
			world(board->worlds);
		}
		while (!(ended = waitpid(child, &status, WNOHANG)) &&
		       time(NULL) - start < STUCK_SECONDS)
			nap(20000);
		if (ended != child || status || board->failures) {
			fprintf(stderr, "stress: %s world %lu ended with %#x\n",
				ended == child ? "the" : "stuck: the", board->worlds, status);
			if (ended == child || !getenv("STRESS_KEEP"))
				kill(-child, SIGKILL);
			tell();
			return 1;
		}
		board->worlds++;
		if (time(NULL) - told >= 60) {
			told = time(NULL);
			tell();
		}
	}
	tell();
	return 0;
}
