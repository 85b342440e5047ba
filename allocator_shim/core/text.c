// SPDX-License-Identifier: MIT
/* Write messages without stdio or malloc. */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "identity.h"
#include "syscalls.h"
#include "text.h"

#define STDERR 2

/* How long a message waits for a pipe or a terminal to take it. */
#define PATIENCE_NS 100000000L

#define BIT_OF(signal) (UINT64_C(1) << ((signal)-1))

/* The file that stderr was at the start; 0 if there was none. */
static uint64_t first_stderr;
static bool begun;

void shim_text_begin(void)
{
	first_stderr = shim_identity(STDERR);
	begun = true;
}

/*
 * Say whether a message may be written.  The program may have closed stderr, and have
 * opened a file of its own, which got its number.  A pipe may have no reader, or be full.
 */
static bool stderr_takes_text(void)
{
	struct timespec patience = { 0, PATIENCE_NS };
	struct pollfd asked = { STDERR, POLLOUT, 0 };

	if (begun && (!first_stderr || shim_identity(STDERR) != first_stderr))
		return false;
	return shim_syscall5(__NR_ppoll, &asked, 1, &patience, NULL, 0) == 1 &&
	       asked.revents == POLLOUT;
}

/*
 * Write to stderr without causing a signal that the program would notice.  SIGTTOU would
 * stop a program in the background, but the kernel does not send it while it is blocked.
 * SIGPIPE and SIGXFSZ are sent, and taken away here.
 */
static void write_text(const char *bytes, size_t length)
{
	const uint64_t all = ~UINT64_C(0);
	const struct timespec at_once = { 0, 0 };
	uint64_t before, pending = 0, sent;
	long result;

	if (!stderr_takes_text())
		return;
	if (shim_syscall4(__NR_rt_sigprocmask, SIG_BLOCK, &all, &before,
			  sizeof(all)))
		return;
	shim_syscall2(__NR_rt_sigpending, &pending, sizeof(pending));
	result = shim_syscall3(__NR_write, STDERR, bytes, length);
	sent = (result == -EPIPE ? BIT_OF(SIGPIPE) : 0) |
	       (result == -EFBIG ? BIT_OF(SIGXFSZ) : 0);
	sent &= ~pending;
	if (sent)
		shim_syscall4(__NR_rt_sigtimedwait, &sent, NULL, &at_once,
			      sizeof(sent));
	shim_syscall4(__NR_rt_sigprocmask, SIG_SETMASK, &before, NULL,
		      sizeof(before));
}

void shim_text_add_bytes(struct shim_text *text, const char *bytes, size_t n)
{
	size_t room = SHIM_TEXT_ROOM - text->length;

	if (n > room)
		n = room;
	memcpy(text->bytes + text->length, bytes, n);
	text->length += n;
}

void shim_text_add(struct shim_text *text, const char *string)
{
	shim_text_add_bytes(text, string, strlen(string));
}

void shim_text_add_number(struct shim_text *text, uint64_t number)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = '0' + number % 10;
		number /= 10;
	} while (number);
	shim_text_add_bytes(text, digits + at, sizeof(digits) - at);
}

void shim_text_say(const struct shim_text *text)
{
	struct shim_text line = { 0 };

	shim_text_add(&line, "pgtable-cleanup: ");
	shim_text_add_bytes(&line, text->bytes, text->length);
	/* A line that was cut ends in a newline, too. */
	if (line.length == SHIM_TEXT_ROOM)
		line.length--;
	line.bytes[line.length++] = '\n';
	write_text(line.bytes, line.length);
}

void shim_say(const char *string)
{
	struct shim_text text = { 0 };

	shim_text_add(&text, string);
	shim_text_say(&text);
}
