/* One JSON object a line on stderr: time, level, service, instance, message, then the fields. Thread-safe (one write(2) a line, at most 4 KiB,
 * cut with "cut":true; one string takes at most half of it, so that a long one does not push the rest out). Values from outside are escaped, so a log
 * line cannot be forged. Never log secrets, payloads or bodies. */
#ifndef AETHELOS_BASE_LOG_H
#define AETHELOS_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

struct log_field {
        const char *key; /* NULL ends the list */
        enum { LOG_FIELD_STRING, LOG_FIELD_INT } kind;
        const char *s; /* NULL is written as null */
        int64_t i;
};

#define LOG_S(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_STRING, .s = (v)})
#define LOG_I(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_INT, .i = (v)})

/* Names the process in every later line. Call once, before threads start; the strings are copied. */
void log_setup(const char *service, const char *instance, enum log_level least);
bool log_level_parse(const char *name, enum log_level *ret_level); /* debug, info, warning, error */

void log_write(enum log_level level, const char *message, const struct log_field fields[]);

/* The empty field in front lets the list be empty; the one behind ends it. */
#define log_at(level, message, ...) log_write((level), (message), (const struct log_field[]){{0}, ##__VA_ARGS__, {0}} + 1)
#define log_debug(message, ...)     log_at(LOG_DEBUG, message, ##__VA_ARGS__)
#define log_info(message, ...)      log_at(LOG_INFO, message, ##__VA_ARGS__)
#define log_warning(message, ...)   log_at(LOG_WARNING, message, ##__VA_ARGS__)
#define log_error(message, ...)     log_at(LOG_ERROR, message, ##__VA_ARGS__)

#endif
