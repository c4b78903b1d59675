/* Starts services as children and talks to them as a client would. Ports are learnt from the files the services write; readiness by asking /readyz.
 */
#include "tests/support/stack.h"

#include "base/json.h"
#include "base/strbuf.h"
#include "base/util.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const all_services[] = {
        "pricing", "payments", "execution", "ledger", "payouts", "meta-repair", "feed", "webhooks", "intake", "board"};
static struct stack *current; /* for the logs when something fails */

static _Noreturn void fail(const struct stack *s, const char *what)
{
        char command[256];

        fprintf(stderr, "stack: %s\n", what);
        snprintf(command, sizeof(command), "for f in %s/*.log; do echo \"== $f\"; tail -n 15 \"$f\"; done >&2", s->dir);
        (void)!system(command);
        abort();
}

static bool serves_http(const char *service)
{
        return strcmp(service, "intake") == 0 || strcmp(service, "board") == 0;
}

static void add_setting(char **list, size_t *n, const char *text)
{
        list[(*n)++] = xstrdup(text);
}

static char **environment(const struct stack *s, const char *service, const char *const settings[])
{
        char **list = xcalloc(64, sizeof(*list));
        struct strbuf b = {0};
        size_t n = 0;

        strbuf_addf(&b, "AETHELOS_DATABASE_URL=%s", s->database_url);
        add_setting(list, &n, b.s);
        strbuf_reset(&b);
        strbuf_addf(&b, "AETHELOS_NATS_URL=%s", s->nats_url);
        add_setting(list, &n, b.s);
        if (serves_http(service)) {
                strbuf_reset(&b);
                strbuf_addf(&b, "AETHELOS_PORT_FILE=%s/%s.port", s->dir, service);
                add_setting(list, &n, b.s);
                add_setting(list, &n, "AETHELOS_PORT=0");
                strbuf_reset(&b);
                strbuf_addf(&b, "AETHELOS_TOKEN_FILE=%s/token", s->dir);
                add_setting(list, &n, b.s);
        }
        for (size_t i = 0; s->settings[i]; i++)
                add_setting(list, &n, s->settings[i]);
        for (size_t i = 0; settings && settings[i]; i++)
                add_setting(list, &n, settings[i]);
        if (getenv("ASAN_OPTIONS")) {
                strbuf_reset(&b);
                strbuf_addf(&b, "ASAN_OPTIONS=%s", getenv("ASAN_OPTIONS"));
                add_setting(list, &n, b.s);
        }
        strbuf_done(&b);
        return list;
}

void stack_spawn(struct stack *s, const char *service, const char *const settings[])
{
        char **env = environment(s, service, settings);
        char program[512], log[128];
        pid_t parent = getpid(), pid;

        snprintf(program, sizeof(program), "%s/aethelos-%s", AETHELOS_BIN_DIR, service);
        snprintf(log, sizeof(log), "%s/%s.log", s->dir, service);
        pid = fork();
        if (pid == 0) {
                int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() != parent || fd < 0)
                        _exit(126);
                dup2(fd, STDERR_FILENO);
                dup2(fd, STDOUT_FILENO);
                execve(program, (char *[]){program, NULL}, env);
                perror(program);
                _exit(127);
        }
        if (pid < 0 || s->n == ARRAY_SIZE(s->processes))
                fail(s, "cannot start a service");
        snprintf(s->processes[s->n].name, sizeof(s->processes[s->n].name), "%s", service);
        s->processes[s->n++].pid = pid;
        for (char **e = env; *e; e++)
                free(*e);
        free(env);
}

static void forget(struct stack *s, size_t i)
{
        s->processes[i] = s->processes[--s->n];
}

/* Who has no handler yet has not begun, and has nothing to drain. */
static bool catches_sigterm(pid_t pid)
{
        char path[64];
        _cleanup_(freep) char *text = NULL;
        const char *mask;

        snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
        if (read_file(path, 1 << 16, &text) < 0 || !(mask = strstr(text, "SigCgt:")))
                return true;
        return strtoull(mask + strlen("SigCgt:"), NULL, 16) >> (SIGTERM - 1) & 1;
}

void stack_stop(struct stack *s, const char *service, int signal_number)
{
        for (size_t i = 0; i < s->n;) {
                bool had_begun;
                int status = 0;

                if (strcmp(s->processes[i].name, service) != 0) {
                        i++;
                        continue;
                }
                had_begun = catches_sigterm(s->processes[i].pid);
                kill(s->processes[i].pid, signal_number);
                waitpid(s->processes[i].pid, &status, 0);
                if (signal_number == SIGTERM && status != 0 && (had_begun || !WIFSIGNALED(status) || WTERMSIG(status) != SIGTERM)) {
                        fprintf(stderr, "%s ended with wait status 0x%x\n", service, (unsigned)status);
                        fail(s, "a service did not drain well");
                }
                forget(s, i);
        }
}

int stack_wait_end(struct stack *s, const char *service, int ms)
{
        int64_t until = now_mono_ms() + ms;

        do {
                for (size_t i = 0; i < s->n; i++) {
                        int status;

                        if (strcmp(s->processes[i].name, service) == 0 && waitpid(s->processes[i].pid, &status, WNOHANG) > 0) {
                                forget(s, i);
                                return status;
                        }
                }
                usleep(2000);
        } while (now_mono_ms() < until);
        return -1;
}

int stack_crash_rounds(void)
{
        const char *rounds = getenv("AETHELOS_CRASH_ROUNDS");

        return rounds && atoi(rounds) > 1 ? atoi(rounds) : 1;
}

static size_t collect(char *data, size_t size, size_t n, void *arg)
{
        strbuf_add(arg, data, size * n);
        return size * n;
}

long stack_port(const struct stack *s, bool admin)
{
        _cleanup_(freep) char *text = NULL;
        char path[128];

        snprintf(path, sizeof(path), "%s/%s.port", s->dir, admin ? "board" : "intake");
        return read_file(path, 64, &text) == 0 ? atol(text) : 0;
}

char *stack_http(struct stack *s, bool admin, const char *method, const char *path, const char *const headers[], const char *body, long *ret_status)
{
        return stack_send(s, admin, method, path, headers, body ? slice_of(body) : (struct slice){0}, ret_status, NULL);
}

char *stack_send(struct stack *s, bool admin, const char *method, const char *path, const char *const headers[], struct slice body, long *ret_status,
        char **ret_headers)
{
        CURL *curl = curl_easy_init();
        struct curl_slist *list = curl_slist_append(NULL, "Content-Type: application/json");
        struct strbuf answer = {0}, lines = {0};
        char url[512];

        snprintf(url, sizeof(url), "http://127.0.0.1:%ld%s", stack_port(s, admin), path);
        if (admin)
                list = curl_slist_append(list, "Authorization: Bearer " STACK_TOKEN);
        for (size_t i = 0; headers && headers[i]; i++)
                list = curl_slist_append(list, headers[i]);
        curl_easy_setopt(curl, CURLOPT_URL, url);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
        if (body.s) {
                curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)body.len);
                curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.s);
        }
        curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, collect);
        curl_easy_setopt(curl, CURLOPT_HEADERDATA, &lines);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 15000L);
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
        *ret_status = -1;
        if (curl_easy_perform(curl) == CURLE_OK)
                curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, ret_status);
        curl_slist_free_all(list);
        curl_easy_cleanup(curl);
        if (ret_headers)
                *ret_headers = strbuf_take(&lines);
        strbuf_done(&lines);
        return strbuf_take(&answer);
}

void stack_wait_ready(struct stack *s)
{
        int64_t until = now_mono_ms() + 20000;

        for (int admin = 0; admin < 2; admin++)
                for (;;) {
                        long status;
                        free(stack_http(s, admin, "GET", "/readyz", NULL, NULL, &status));
                        if (status == 200)
                                break;
                        if (now_mono_ms() > until)
                                fail(s, "the services do not get ready");
                        usleep(10000);
                }
}

static void end_all(void)
{
        if (current)
                for (size_t i = 0; i < current->n; i++)
                        kill(current->processes[i].pid, SIGKILL);
}

struct stack *stack_start_bare(void)
{
        struct stack *s = xcalloc(1, sizeof(*s));
        static bool registered;
        char path[128];
        FILE *f;

        if (!registered)
                atexit(end_all);
        registered = true;
        strcpy(s->dir, "/tmp/aethelos-stack-XXXXXX");
        if (!mkdtemp(s->dir))
                fail(s, "mkdtemp");
        snprintf(path, sizeof(path), "%s/token", s->dir);
        f = fopen(path, "w");
        if (!f)
                fail(s, "token");
        fputs(STACK_TOKEN "\n", f);
        fclose(f);
        s->pg = pg_fixture_start();
        s->nats = nats_fixture_start(NULL);
        s->database_url = pg_fixture_url(s->pg);
        s->nats_url = nats_fixture_url(s->nats);
        current = s;
        return s;
}

struct stack *stack_start(void)
{
        struct stack *s = stack_start_bare();

        for (size_t i = 0; i < ARRAY_SIZE(all_services); i++)
                stack_spawn(s, all_services[i], NULL);
        stack_wait_ready(s);
        return s;
}

struct stack *stack_free(struct stack *s)
{
        char command[128];

        for (size_t i = ARRAY_SIZE(all_services); i-- > 0;)
                stack_stop(s, all_services[i], SIGTERM);
        nats_fixture_free(s->nats);
        pg_fixture_free(s->pg);
        snprintf(command, sizeof(command), "rm -rf %s", s->dir);
        (void)!system(command);
        current = NULL;
        free(s);
        return NULL;
}

char *json_at(const char *json, const char *path)
{
        _cleanup_(json_done) struct json_doc doc = {0};
        struct json_error error;
        json_value v;
        char name[64];

        if (json_parse_own(json, strlen(json), &doc, &error) < 0)
                return NULL;
        v = json_root(&doc);
        while (*path && v) {
                size_t len = strcspn(path, ".");

                snprintf(name, sizeof(name), "%.*s", (int)len, path);
                if (json_is(v, JSON_ARRAY)) {
                        int i = atoi(name);
                        for (v = json_first(&doc, v); v && i > 0; i--) {
                                json_value next = json_root(&doc) + v->next;
                                v = next < json_root(&doc) + doc.n_tokens ? next : NULL;
                        }
                } else {
                        v = json_get(&doc, v, name);
                }
                path += len + (path[len] == '.');
        }
        if (!v)
                return NULL;
        if (json_is(v, JSON_STRING))
                return json_string(&doc, v, NULL);
        return xstrndup(json_raw(&doc, v).s, json_raw(&doc, v).len);
}

void stack_await(struct stack *s, const char *sql, const char *answer, int ms)
{
        int64_t until = now_mono_ms() + ms;

        for (;;) {
                _cleanup_(freep) char *got = pg_fixture_ask(s->pg, sql);

                if (strcmp(got, answer) == 0)
                        return;
                if (now_mono_ms() > until) {
                        fprintf(stderr, "%s\nis still \"%s\", not \"%s\"\n", sql, got, answer);
                        fail(s, "waited in vain");
                }
                usleep(5000);
        }
}

void stack_assert_sound(struct stack *s)
{
        _cleanup_(freep) char *faults = pg_fixture_ask(
                s->pg, "SELECT coalesce(string_agg(invariant || ' ' || coalesce(chain_id::text, '') || ' ' || fault, E'\\n'), '') FROM audit()");

        if (faults[0]) {
                fprintf(stderr, "%s\n", faults);
                fail(s, "an invariant is broken");
        }
}
