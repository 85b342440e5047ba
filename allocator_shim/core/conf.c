// SPDX-License-Identifier: MIT
/* PGTABLE_CLEANUP_CONF=key:value,... */

#include <stddef.h>
#include <string.h>

#include "conf.h"
#include "text.h"

struct slice {
	const char *at;
	size_t length;
};

static bool is(struct slice slice, const char *string)
{
	return strlen(string) == slice.length &&
	       !memcmp(slice.at, string, slice.length);
}

static bool read_bool(struct slice value, void *to)
{
	if (!is(value, "true") && !is(value, "false"))
		return false;
	*(bool *)to = is(value, "true");
	return true;
}

static bool read_number(struct slice value, uint32_t least, uint32_t most,
			void *to)
{
	uint64_t number = 0;
	size_t i;

	if (!value.length || value.length > 10)
		return false;
	for (i = 0; i < value.length; i++) {
		if (value.at[i] < '0' || value.at[i] > '9')
			return false;
		number = number * 10 + value.at[i] - '0';
	}
	if (number < least || number > most)
		return false;
	*(uint32_t *)to = number;
	return true;
}

static bool read_threshold(struct slice value, void *to)
{
	return read_number(value, 1, 1 << 20, to);
}

static bool read_interval(struct slice value, void *to)
{
	return read_number(value, 1, 24 * 3600 * 1000, to);
}

static bool read_verbose(struct slice value, void *to)
{
	return read_number(value, 0, 2, to);
}

static bool read_backend(struct slice value, void *to)
{
	if (!is(value, "module") && !is(value, "null"))
		return false;
	*(enum shim_backend *)to = is(value, "null") ? SHIM_BACKEND_NULL :
						       SHIM_BACKEND_MODULE;
	return true;
}

static bool read_stats(struct slice value, void *to)
{
	if (!is(value, "exit") && !is(value, "none"))
		return false;
	*(bool *)to = is(value, "exit");
	return true;
}

static const struct {
	const char *key;
	bool (*read)(struct slice value, void *to);
	size_t offset;
	const char *values;
} keys[] = {
#define KEY(key, read, field, values) \
	{ key, read, offsetof(struct shim_conf, field), values }
	KEY("threshold", read_threshold, threshold, "1 to 1048576 (units)"),
	KEY("interval_ms", read_interval, interval_ms, "1 to 86400000"),
	KEY("zero_pages", read_bool, zero_pages, "true or false"),
	KEY("thread", read_bool, thread, "true or false"),
	KEY("backend", read_backend, backend, "module or null"),
	KEY("verbose", read_verbose, verbose, "0, 1 or 2"),
	KEY("stats", read_stats, stats_at_exit, "exit or none"),
#undef KEY
};

static void complain(struct slice entry, const char *why, const char *values)
{
	struct shim_text text = { 0 };

	shim_text_add(&text, SHIM_CONF_VARIABLE ": ");
	shim_text_add_bytes(&text, entry.at, entry.length);
	shim_text_add(&text, why);
	shim_text_add(&text, values);
	shim_text_add(&text, "; ignored");
	shim_text_say(&text);
}

static void complain_of_key(struct slice entry, bool told)
{
	struct shim_text known = { 0 };
	size_t i;

	if (told)
		return;
	for (i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		shim_text_add(&known, i ? ", " : "");
		shim_text_add(&known, keys[i].key);
	}
	/* Its end, for one string. */
	shim_text_add_bytes(&known, "", 1);
	complain(entry, " is no key:value that is known; the keys are ",
		 known.bytes);
}

/* Return: whether the entry was understood. */
static bool read_entry(struct shim_conf *conf, struct slice entry, bool told)
{
	const char *colon = memchr(entry.at, ':', entry.length);
	struct slice key, value;
	size_t i;

	if (!colon) {
		complain_of_key(entry, told);
		return false;
	}
	key = (struct slice){ entry.at, colon - entry.at };
	value = (struct slice){ colon + 1, entry.length - key.length - 1 };
	for (i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (!is(key, keys[i].key))
			continue;
		if (keys[i].read(value, (char *)conf + keys[i].offset))
			return true;
		if (!told)
			complain(entry, ": the value must be ", keys[i].values);
		return false;
	}
	complain_of_key(entry, told);
	return false;
}

unsigned int shim_conf_read(struct shim_conf *conf, const char *text, bool told)
{
	unsigned int wrong = 0;

	while (*text) {
		size_t length = strcspn(text, ",");

		if (length)
			wrong += !read_entry(
				conf, (struct slice){ text, length }, told);
		text += length;
		text += *text == ',';
	}
	return wrong;
}
