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
#define NUMBER(key, value, least, most, values) \
	{ #key, offsetof(struct shim_conf, key), values, least, most, {} },
#define WORD(key, first, second, values)                \
	{                                               \
		#key,  offsetof(struct shim_conf, key), \
		values, 0, 0, { first, second }         \
	},
	SHIM_CONF_KEYS(NUMBER, WORD)
#undef NUMBER
#undef WORD
};

/* The function that is told what is wrong with an entry, or NULL, and its data. */
struct listener {
	void (*complain)(const struct shim_text *why, void *data);
	void *data;
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

static void complain_of_value(struct listener listener, struct slice entry,
			      const struct key *key)
{
	struct shim_text text = { 0 };

	if (!listener.complain)
		return;
	shim_text_add_bytes(&text, entry.at, entry.length);
	shim_text_add(&text, ": the value must be ");
	shim_text_add(&text, key->values);
	listener.complain(&text, listener.data);
}

static void complain_of_key(struct listener listener, struct slice entry)
{
	struct shim_text text = { 0 };
	size_t i;

	if (!listener.complain)
		return;
	shim_text_add_bytes(&text, entry.at, entry.length);
	shim_text_add(&text, " is no key:value that is known; the keys are ");
	for (i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		shim_text_add(&text, i ? ", " : "");
		shim_text_add(&text, keys[i].name);
	}
	listener.complain(&text, listener.data);
}

/* Return: whether the entry was understood. */
static bool read_entry(struct shim_conf *conf, struct slice entry,
		       struct listener listener)
{
	const char *colon = memchr(entry.at, ':', entry.length);
	struct slice key, value;
	size_t i;

	if (!colon) {
		complain_of_key(listener, entry);
		return false;
	}
	key = (struct slice){ entry.at, colon - entry.at };
	value = (struct slice){ colon + 1, entry.length - key.length - 1 };
	for (i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (!is(key, keys[i].name))
			continue;
		if (read_value(&keys[i], value, value_of(conf, &keys[i])))
			return true;
		complain_of_value(listener, entry, &keys[i]);
		return false;
	}
	complain_of_key(listener, entry);
	return false;
}

unsigned int shim_conf_parse(struct shim_conf *conf, const char *text,
			     void (*complain)(const struct shim_text *why,
					      void *data),
			     void *data)
{
	struct listener listener = { complain, data };
	unsigned int wrong = 0;

	while (*text) {
		size_t length = strcspn(text, ",");

		if (length)
			wrong += !read_entry(
				conf, (struct slice){ text, length }, listener);
		text += length;
		text += *text == ',';
	}
	return wrong;
}

static void say_ignored(const struct shim_text *why, void *unused)
{
	struct shim_text text = { 0 };

	shim_text_add(&text, SHIM_CONF_VARIABLE ": ");
	shim_text_add_bytes(&text, why->bytes, why->length);
	shim_text_add(&text, "; ignored");
	shim_text_say(&text);
}

unsigned int shim_conf_read(struct shim_conf *conf, const char *text, bool told)
{
	return shim_conf_parse(conf, text, told ? NULL : say_ignored, NULL);
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
