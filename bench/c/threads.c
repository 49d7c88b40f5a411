/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Threads that share one hot loop of branches: ROUNDS rounds of it in all, by THREADS threads, of
 * which ALIVE live at once.
 *
 * Usage: threads THREADS ALIVE ROUNDS
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct job {
	pthread_t thread;
	uint64_t rounds, x, sum;
};

static uint64_t work(uint64_t rounds, uint64_t x)
{
	uint64_t sum = 0;

	while (rounds--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		switch (x & 7) {
		case 0:
			sum += x;
			break;
		case 1:
			sum ^= x >> 3;
			break;
		case 2:
			sum -= x >> 9;
			break;
		case 3:
			if (x & 0x100)
				sum = (sum + x) << 1 | (sum + x) >> 63;
			else
				sum = ~sum;
			break;
		case 4:
			sum *= 3;
			break;
		case 5:
			if (sum & 1)
				sum = sum * 5 + 1;
			else
				sum = (sum >> 1) + x;
			break;
		case 6:
			sum += 7;
			break;
		default:
			sum ^= sum >> 5;
		}
	}
	return sum;
}

static void *run(void *arg)
{
	struct job *job = arg;

	job->sum = work(job->rounds, job->x);
	return NULL;
}

int main(int argc, char **argv)
{
	uint64_t threads, alive, rounds, sum = 0;
	struct job *jobs;

	if (argc != 4)
		return 2;
	threads = strtoull(argv[1], NULL, 10);
	alive = strtoull(argv[2], NULL, 10);
	rounds = strtoull(argv[3], NULL, 10);
	jobs = calloc(alive, sizeof(*jobs));
	if (!jobs)
		return 1;
	for (uint64_t done = 0; done < threads;) {
		uint64_t batch = threads - done < alive ? threads - done : alive;

		for (uint64_t i = 0; i < batch; i++) {
			jobs[i].rounds = rounds / threads;
			jobs[i].x = done + i + 1;
			if (pthread_create(&jobs[i].thread, NULL, run, &jobs[i]))
				return 1;
		}
		for (uint64_t i = 0; i < batch; i++) {
			if (pthread_join(jobs[i].thread, NULL))
				return 1;
			sum += jobs[i].sum;
		}
		done += batch;
	}
	printf("%llu\n", (unsigned long long)sum);
	return 0;
}
