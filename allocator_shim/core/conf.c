// SPDX-License-Identifier: MIT
/* Read and write the settings: PGTABLE_CLEANUP_CONF=key:value,... */

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

static bool read_number(struct slice value, uint32_t least, uint32_t most,
			uint32_t *to)
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
	*to = number;
	return true;
}

/* The value of a key is a number, or one of two words that stand for 0 and 1. */
static const struct key {
	const char *name;
	size_t offset;
	const char *values;
	uint32_t least, most;
	const char *words[2];
} keys[] = {
#define NUMBER(key, from, to, values) \
	{ #key, offsetof(struct shim_conf, key), values, from, to, {} }
#define WORD(key, first, second, values)                      \
	{                                                     \
		#key,  offsetof(struct shim_conf, key),       \
		values, 0, 0, { first, second }               \
	}
	NUMBER(threshold, 1, 1 << 20, "1 to 1048576 (units)"),
	NUMBER(interval_ms, 1, 24 * 3600 * 1000, "1 to 86400000"),
	WORD(zero_pages, "false", "true", "true or false"),
	WORD(thread, "false", "true", "true or false"),
	WORD(hooks, "none", "jemalloc", "jemalloc or none"),
	WORD(backend, "module", "null", "module or null"),
	NUMBER(verbose, 0, 2, "0, 1 or 2"),
	WORD(stats, "none", "exit", "exit or none"),
#undef NUMBER
#undef WORD
};

static uint32_t *value_of(const struct shim_conf *conf, const struct key *key)
{
	return (uint32_t *)((char *)conf + key->offset);
}

static bool read_value(const struct key *key, struct slice value, uint32_t *to)
{
	uint32_t word;

	if (!key->words[0])
		return read_number(value, key->least, key->most, to);
	for (word = 0; word < 2; word++) {
		if (is(value, key->words[word])) {
			*to = word;
			return true;
		}
	}
	return false;
}

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
		shim_text_add(&known, keys[i].name);
	}
	/* End the list of known keys with a NUL byte. */
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
		if (!is(key, keys[i].name))
			continue;
		if (read_value(&keys[i], value, value_of(conf, &keys[i])))
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

void shim_conf_write(const struct shim_conf *conf, struct shim_text *text)
{
	size_t i;

	for (i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		uint32_t value = *value_of(conf, &keys[i]);

		shim_text_add(text, i ? "," : "");
		shim_text_add(text, keys[i].name);
		shim_text_add(text, ":");
		if (keys[i].words[0])
			shim_text_add(text, keys[i].words[value]);
		else
			shim_text_add_number(text, value);
	}
}
