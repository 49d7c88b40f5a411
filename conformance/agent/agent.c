/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The protocol: a connection for each task, a line for each operation, a line for each answer. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define INIT_TRACE _IOR('c', 1, unsigned long)
#define INIT_TRACE_32 0x80046301
#define ENABLE _IO('c', 100)
#define DISABLE _IO('c', 101)
#define REMOTE_ENABLE 0x40186366
#define UNIQUE_ENABLE _IOW('c', 103, unsigned long)
#define RESET_TRACE _IO('c', 104)

enum { NAMES = 1024, PAGE = 4096, LONGEST_RACE = 20 };

/* What the tasks of a process share. */
static const char *program, *socket_path;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned threads = 1;
static struct file {
	bool open;
	int fd;
} files[NAMES];
static struct map {
	uint64_t *words;
	size_t bytes;
} maps[NAMES];

/* A task. */
struct agent {
	unsigned task;
	FILE *in, *out;
};

struct answer {
	enum kind { OK, ERRNO, VALUE, WORDS, ABSENT, LACKS, BROKEN } kind;
	uint64_t value;
	uint64_t *words; /* freed when it was sent */
	const char *what;
};

static const struct answer ok = { .kind = OK }, absent = { .kind = ABSENT };

static struct answer value(uint64_t value)
{
	return (struct answer){ .kind = VALUE, .value = value };
}

static struct answer broken(const char *what)
{
	return (struct answer){ .kind = BROKEN, .what = what };
}

static struct answer lacks(const char *what)
{
	return (struct answer){ .kind = LACKS, .what = what };
}

/* What a call of libc's sort came to. */
static struct answer called(int result)
{
	return result < 0 ? (struct answer){ .kind = ERRNO, .value = errno } : ok;
}

static struct answer words_of(const uint64_t *words, size_t count)
{
	struct answer answer = { .kind = WORDS, .value = count };

	answer.words = malloc(count * sizeof(*words) + 1);
	if (!answer.words)
		return broken("no memory for an answer");
	for (size_t i = 0; i < count; i++)
		answer.words[i] = __atomic_load_n(&words[i], __ATOMIC_ACQUIRE);
	return answer;
}

static void send_answer(struct agent *agent, struct answer answer)
{
	FILE *out = agent->out;

	switch (answer.kind) {
	case OK:
		fputs("ok", out);
		break;
	case ERRNO:
		fprintf(out, "errno %llu", (unsigned long long)answer.value);
		break;
	case VALUE:
		fprintf(out, "value %llu", (unsigned long long)answer.value);
		break;
	case WORDS:
		fputs("words", out);
		for (size_t i = 0; i < answer.value; i++)
			fprintf(out, " %#llx", (unsigned long long)answer.words[i]);
		free(answer.words);
		break;
	case ABSENT:
		fputs("absent", out);
		break;
	case LACKS:
		fprintf(out, "lacks %s", answer.what);
		break;
	case BROKEN:
		fprintf(out, "broken %s", answer.what);
		break;
	}
	fputc('\n', out);
	fflush(out);
}

char *next_word(struct words *words)
{
	if (words->at < words->end)
		return *words->at++;
	words->bad = true;
	return "";
}

bool take_word(struct words *words, const char *word)
{
	if (words->at == words->end || strcmp(*words->at, word))
		return false;
	words->at++;
	return true;
}

static uint64_t number(struct words *words, const char *word)
{
	char *end;
	uint64_t number = strtoull(word, &end, 0);

	words->bad |= end == word || *end;
	return number;
}

uint64_t next_number(struct words *words)
{
	return number(words, next_word(words));
}

uint64_t next_handle(struct words *words)
{
	const char *word = next_word(words);

	if (!strncmp(word, "common:", 7))
		return number(words, word + 7);
	if (!strncmp(word, "usb:", 4))
		return 1ull << 56 | number(words, word + 4);
	return number(words, word);
}

/* A name such as f0: its number. */
static unsigned next_name(struct words *words, char letter)
{
	const char *word = next_word(words);
	uint64_t name = *word == letter ? number(words, word + 1) : NAMES;

	words->bad |= name >= NAMES;
	return name % NAMES;
}

/* The number that may stand at the end. */
static uint64_t last_number(struct words *words)
{
	bool is_end = words->at == words->end || !strcmp(*words->at, ";") ||
		      !strcmp(*words->at, "}");

	return is_end ? 0 : next_number(words);
}

static uint64_t next_mode(struct words *words)
{
	if (take_word(words, "pc"))
		return 0;
	if (take_word(words, "cmp"))
		return 1;
	return next_number(words);
}

/* An argument of REMOTE_ENABLE, in memory of its own behind which nothing can be read. */
struct argument {
	char *pages;
	size_t length;
	unsigned long address;
	bool changes;
	uint32_t *num_handles, first, then;
};

static struct answer read_argument(struct words *words, struct argument *argument)
{
	struct {
		uint32_t mode, area, num_handles, padding;
		uint64_t common, handles[512];
	} bytes = { .mode = next_mode(words) };
	size_t whole, readable = SIZE_MAX, room, handles = 0;
	bool is_claimed = false;
	char *at;

	*argument = (struct argument){ .pages = NULL };
	for (;;) {
		if (take_word(words, "area")) {
			bytes.area = next_number(words);
		} else if (take_word(words, "common")) {
			bytes.common = next_handle(words);
		} else if (take_word(words, "handles")) {
			words->bad |= !take_word(words, "[");
			while (!words->bad && !take_word(words, "]")) {
				if (handles == 512)
					return broken("more than 512 handles");
				bytes.handles[handles++] = next_handle(words);
			}
		} else if (take_word(words, "claim")) {
			bytes.num_handles = next_number(words);
			is_claimed = true;
		} else if (take_word(words, "then")) {
			argument->then = next_number(words);
			argument->changes = true;
		} else if (take_word(words, "readable")) {
			readable = next_number(words);
		} else {
			break;
		}
	}
	if (words->bad)
		return broken("not an argument of REMOTE_ENABLE");
	if (!is_claimed)
		bytes.num_handles = handles;
	whole = 24 + 8 * handles;
	at = NULL;
	if (readable < whole)
		whole = readable;
	room = (whole + PAGE - 1) / PAGE * PAGE;
	argument->length = room + PAGE;
	argument->pages = mmap(NULL, argument->length, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (argument->pages == MAP_FAILED)
		return broken("no memory for an argument");
	/* Cut short, it ends where the pages do. */
	at = argument->pages + (readable == SIZE_MAX ? 0 : room - whole);
	memcpy(at, &bytes, whole);
	mprotect(argument->pages + room, PAGE, PROT_NONE);
	argument->address = (unsigned long)at;
	argument->num_handles = (uint32_t *)(at + 8);
	argument->first = bytes.num_handles;
	return ok;
}

static bool race_is_over;

static void *change_num_handles(void *data)
{
	struct argument *argument = data;

	while (!__atomic_load_n(&race_is_over, __ATOMIC_RELAXED)) {
		__atomic_store_n(argument->num_handles, argument->then, __ATOMIC_RELAXED);
		__atomic_store_n(argument->num_handles, argument->first, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Calls while another thread changes num_handles, until the call saw both values. */
static struct answer race(int fd, struct argument *argument)
{
	struct answer answer = ok;
	time_t began = time(NULL);
	pthread_t other;

	race_is_over = false;
	if (pthread_create(&other, NULL, change_num_handles, argument))
		return broken("no thread to change num_handles");
	while (answer.kind == OK && time(NULL) - began < LONGEST_RACE) {
		answer = called(device_ioctl(fd, REMOTE_ENABLE, argument->address));
		if (answer.kind == OK)
			answer = called(device_ioctl(fd, DISABLE, 0));
	}
	__atomic_store_n(&race_is_over, true, __ATOMIC_RELAXED);
	pthread_join(other, NULL);
	if (answer.kind == OK)
		return lacks("races the change never came between the two reads");
	return answer;
}

static struct answer remote(int fd, struct words *words)
{
	struct argument argument;
	struct answer answer = read_argument(words, &argument);

	if (answer.kind != OK)
		return answer;
	if (argument.changes && argument.first != argument.then)
		answer = race(fd, &argument);
	else
		answer = called(device_ioctl(fd, REMOTE_ENABLE, argument.address));
	munmap(argument.pages, argument.length);
	return answer;
}

/* A call on a file, as a 32-bit client makes it or not. */
static struct answer call(const char *verb, bool as32, struct words *words)
{
	struct file file = files[next_name(words, 'f')];
	unsigned long request, argument;

	if (!strcmp(verb, "remote"))
		return file.open ? remote(file.fd, words) : absent;
	if (!strcmp(verb, "init")) {
		request = as32 ? INIT_TRACE_32 : INIT_TRACE;
		argument = next_number(words);
	} else if (!strcmp(verb, "enable")) {
		request = ENABLE;
		argument = next_mode(words);
	} else if (!strcmp(verb, "disable")) {
		request = DISABLE;
		argument = last_number(words);
	} else if (!strcmp(verb, "unique")) {
		request = UNIQUE_ENABLE;
		argument = next_number(words);
	} else if (!strcmp(verb, "reset")) {
		request = RESET_TRACE;
		argument = last_number(words);
	} else if (!strcmp(verb, "ioctl")) {
		request = next_number(words);
		argument = next_number(words);
	} else {
		return broken("no agent knows this");
	}
	if (words->bad)
		return broken("not a call");
	return file.open ? called(device_ioctl(file.fd, request, argument)) : absent;
}

static struct answer open_file(struct words *words)
{
	struct file *file = &files[next_name(words, 'f')];
	int fd;

	if (words->bad || file->open)
		return words->bad ? broken("not a file") : absent;
	fd = device_open();
	if (fd >= 0)
		*file = (struct file){ .open = true, .fd = fd };
	return called(fd);
}

static struct answer close_file(struct words *words)
{
	struct file *file = &files[next_name(words, 'f')];

	if (words->bad || !file->open)
		return words->bad ? broken("not a file") : absent;
	file->open = false;
	return called(device_close(file->fd));
}

static struct answer map_file(struct words *words)
{
	struct file *file = &files[next_name(words, 'f')];
	struct map *map = &maps[next_name(words, 'm')];
	size_t bytes = next_number(words);
	uint64_t offset = take_word(words, "at") ? next_number(words) : 0;
	int protection = take_word(words, "read-only") ? PROT_READ : PROT_READ | PROT_WRITE;
	void *at;

	if (words->bad)
		return broken("not a mapping");
	if (!file->open || map->words)
		return absent;
	at = device_map(file->fd, bytes, protection, offset);
	if (at == MAP_FAILED)
		return called(-1);
	*map = (struct map){ .words = at, .bytes = bytes };
	return ok;
}

/* Records below the count that are not there. */
static uint64_t unwritten(const struct map *map)
{
	uint64_t most = map->bytes / 8 - 1, missing = 0;
	uint64_t count = __atomic_load_n(&map->words[0], __ATOMIC_ACQUIRE);

	for (uint64_t i = 1; i <= (count < most ? count : most); i++)
		missing += !__atomic_load_n(&map->words[i], __ATOMIC_RELAXED);
	return missing;
}

/* What is done with a mapping. */
static struct answer use_map(const char *verb, struct words *words)
{
	struct map *map = &maps[next_name(words, 'm')];

	if (!strcmp(verb, "unmap") && map->words) {
		munmap(map->words, map->bytes);
		map->words = NULL;
	} else if (!strcmp(verb, "watch") && map->words) {
		return value(unwritten(map));
	} else if (!strcmp(verb, "read")) {
		uint64_t first = next_number(words), count = next_number(words);
		uint64_t most = map->words ? map->bytes / 8 : 0;

		if (first > most || count > most - first || !map->words)
			return absent;
		return words_of(map->words + first, count);
	} else if (!strcmp(verb, "poke")) {
		uint64_t word = next_number(words), value = next_number(words);

		if (!map->words || word >= map->bytes / 8)
			return absent;
		__atomic_store_n(&map->words[word], value, __ATOMIC_RELAXED);
	} else {
		return absent;
	}
	return ok;
}

static bool is_one_of(const char *word, const char *const *all)
{
	while (*all && strcmp(word, *all))
		all++;
	return *all;
}

/* What a task can do by itself. */
static struct answer act(struct words *words)
{
	static const char *const of_maps[] = { "unmap", "watch", "read", "poke", NULL };
	const char *verb = next_word(words), *need;
	struct seen seen = { .count = 0 };

	if (!strcmp(verb, "run")) {
		need = subject_run(words, &seen);
		if (need)
			return lacks(need);
		if (words->bad)
			return broken("not steps");
		return seen.count ? words_of(seen.handles, seen.count) : ok;
	}
	if (!strcmp(verb, "open"))
		return open_file(words);
	if (!strcmp(verb, "close"))
		return close_file(words);
	if (!strcmp(verb, "map"))
		return map_file(words);
	if (is_one_of(verb, of_maps))
		return use_map(verb, words);
	if (!strcmp(verb, "as32"))
		return call(next_word(words), true, words);
	return call(verb, false, words);
}

/* `begin ROUNDS { ACT ; ... }`: the first outcome that failed. */
static struct answer rounds(struct words *words)
{
	uint64_t rounds = next_number(words);
	struct answer first = ok;

	if (words->bad || !take_word(words, "{"))
		return broken("not rounds");
	for (uint64_t round = 0; round < rounds; round++) {
		struct words left = *words;

		do {
			struct answer answer = act(&left);

			if (answer.kind == LACKS || answer.kind == BROKEN)
				return answer;
			if (answer.kind == WORDS)
				free(answer.words);
			else if (first.kind == OK && (answer.kind != VALUE || answer.value))
				first = answer;
		} while (take_word(&left, ";"));
		if (!take_word(&left, "}"))
			return broken("rounds without an end");
	}
	return first;
}

static void serve(unsigned task);

static void *serve_thread(void *task)
{
	serve((unsigned)(uintptr_t)task);
	return NULL;
}

static struct answer spawn_thread(unsigned task)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int error;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	__atomic_add_fetch(&threads, 1, __ATOMIC_SEQ_CST);
	error = pthread_create(&thread, &attributes, serve_thread, (void *)(uintptr_t)task);
	pthread_attr_destroy(&attributes);
	return error ? broken("no thread") : ok;
}

static struct answer spawn_process(unsigned task)
{
	pid_t child;

	/* No other thread is in the middle of a change while the copy is made. */
	pthread_mutex_lock(&lock);
	child = fork();
	pthread_mutex_unlock(&lock);
	if (!child) {
		threads = 1;
		serve(task);
		exit(0);
	}
	return called(child);
}

/* Replaces this program by itself, for the same task. */
static struct answer exec_again(struct agent *agent)
{
	char task[16], names[NAMES * 16], *at = names;

	snprintf(task, sizeof(task), "t%u", agent->task);
	*at = 0;
	for (unsigned name = 0; name < NAMES; name++)
		if (files[name].open)
			at += sprintf(at, "f%u=%d,", name, files[name].fd);
	send_answer(agent, ok);
	execl(program, program, socket_path, task, names, NULL);
	exit(1);
}

static struct answer drops(struct words *words)
{
	struct file file = files[next_name(words, 'f')];
	uint64_t drops[3];

	if (!file.open)
		return absent;
	if (device_drops(file.fd, drops))
		return lacks("drops this kcov counts none");
	return words_of(drops, 3);
}

static struct answer memory(void)
{
	uint64_t bytes;

	return device_memory(&bytes) ? lacks("memory the device does not report it") : value(bytes);
}

static void describe(struct agent *agent)
{
	char *facts = subject_facts();

	fprintf(agent->out, "text %s;%s\n", device_facts, facts);
	fflush(agent->out);
	free(facts);
}

/* Answers one line. Says whether the task goes on. */
static bool obey(struct agent *agent, struct words words)
{
	struct words ahead = words;
	const char *first = next_word(&ahead), *verb;
	struct answer answer;

	if (!strcmp(first, "describe")) {
		describe(agent);
		return true;
	}
	if (!strcmp(first, "drops") || !strcmp(first, "memory")) {
		send_answer(agent, *first == 'd' ? drops(&ahead) : memory());
		return true;
	}
	words = ahead;
	verb = next_word(&ahead);
	if (!strcmp(verb, "thread")) {
		answer = spawn_thread(next_name(&ahead, 't'));
	} else if (!strcmp(verb, "fork")) {
		answer = spawn_process(next_name(&ahead, 't'));
	} else if (!strcmp(verb, "exec")) {
		answer = exec_again(agent);
	} else if (!strcmp(verb, "fail")) {
		answer = lacks("failures nothing makes an allocation fail on demand");
	} else if (!strcmp(verb, "end")) {
		if (getpid() == (pid_t)syscall(SYS_gettid) && threads > 1) {
			answer = broken("a process's first task cannot end before its others");
		} else {
			__atomic_sub_fetch(&threads, 1, __ATOMIC_SEQ_CST);
			send_answer(agent, ok);
			return false;
		}
	} else if (!strcmp(verb, "begin")) {
		/* Answered before it is done; the next line is the one that joins. */
		send_answer(agent, ok);
		answer = rounds(&ahead);
		if (fgetc(agent->in) == EOF)
			exit(0);
		while (fgetc(agent->in) != '\n')
			if (feof(agent->in))
				exit(0);
	} else {
		answer = act(&words);
	}
	send_answer(agent, answer);
	return true;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static struct agent connect_task(unsigned task)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct agent agent = { .task = task };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(socket_path) >= sizeof(address.sun_path))
		fail("a socket");
	strcpy(address.sun_path, socket_path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		fail(socket_path);
	agent.in = fdopen(fd, "r");
	agent.out = fdopen(fcntl(fd, F_DUPFD_CLOEXEC, 0), "w");
	if (!agent.in || !agent.out)
		fail("a stream");
	fprintf(agent.out, "hello t%u %d %ld\n", task, getpid(), syscall(SYS_gettid));
	fflush(agent.out);
	return agent;
}

/* Splits a line into its words. */
static struct words split(char *line, char ***room, size_t *rooms)
{
	struct words words = { .bad = false };
	size_t count = 0;
	char *rest = NULL;

	for (char *word = strtok_r(line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
		if (count == *rooms) {
			*rooms = 2 * *rooms + 64;
			*room = realloc(*room, *rooms * sizeof(**room));
			if (!*room)
				fail("memory for a line");
		}
		(*room)[count++] = word;
	}
	words.at = *room;
	words.end = words.at + count;
	return words;
}

/* Does what a task is told, until it ends. */
static void serve(unsigned task)
{
	struct agent agent = connect_task(task);
	char *line = NULL, **room = NULL;
	size_t size = 0, rooms = 0;

	do {
		/* Without the suite there is nothing left to do. */
		if (getline(&line, &size, agent.in) <= 0)
			exit(0);
	} while (obey(&agent, split(line, &room, &rooms)));
	fclose(agent.in);
	fclose(agent.out);
	free(line);
	free(room);
}

/* agent SOCKET TASK [FILES] */
int main(int argc, char **argv)
{
	char *rest = NULL;
	unsigned task;

	if (argc < 3 || sscanf(argv[2], "t%u", &task) != 1) {
		fprintf(stderr, "%s: rkcov-conformance run --agent %s starts this\n", argv[0], argv[0]);
		return 2;
	}
	program = argv[0];
	socket_path = argv[1];
	for (char *file = argc > 3 ? strtok_r(argv[3], ",", &rest) : NULL; file;
	     file = strtok_r(NULL, ",", &rest)) {
		unsigned name;
		int fd;

		if (sscanf(file, "f%u=%d", &name, &fd) == 2 && name < NAMES)
			files[name] = (struct file){ .open = true, .fd = fd };
	}
	/* Children need not be waited for. */
	signal(SIGCHLD, SIG_IGN);
	device_begin();
	serve(task);
	return 0;
}
