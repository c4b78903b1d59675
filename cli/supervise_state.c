/* The state file, which `status` and every client command read, and the ports that the HTTP services took.
 *
 * Invariant: state.json is replaced as a whole, so that a reader sees one moment. A crash here leaves the file of the moment before; readers believe
 * it only while the lock is held. */
#include "supervise.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool serves_http(const char *service)
{
        return strcmp(service, "intake") == 0 || strcmp(service, "board") == 0;
}

bool ports_read(struct supervisor *v)
{
        bool changed = false;

        for (size_t i = 0; i < v->n; i++) {
                struct process *p = &v->processes[i];
                _cleanup_(freep) char *text = NULL;
                char path[4096];

                if (p->state != PROCESS_STARTING)
                        continue;
                snprintf(path, sizeof(path), "%s/run/%s-%d.port", v->stack->state, p->name, p->number);
                if (read_file(path, 32, &text) < 0 || atoi(text) <= 0)
                        continue;
                p->state = PROCESS_RUNNING;
                changed = true;
                if (p->number == 1)
                        *(strcmp(p->name, "board") == 0 ? &v->admin_port : &v->public_port) = atoi(text);
        }
        return changed;
}

static void add_member(struct strbuf *b, const char *name, const char *text)
{
        strbuf_addf(b, "\"%s\":", name);
        if (text)
                strbuf_add_json(b, text, strlen(text));
        else
                strbuf_adds(b, "null");
        strbuf_addc(b, ',');
}

static void add_processes(const struct supervisor *v, enum process_kind kind, struct strbuf *b)
{
        static const char *const states[] = {
                [PROCESS_STOPPED] = "stopped", [PROCESS_STARTING] = "starting", [PROCESS_RUNNING] = "running", [PROCESS_WAITING] = "waiting"};
        bool first = true;

        strbuf_addc(b, '[');
        for (size_t i = 0; i < v->n; i++) {
                const struct process *p = &v->processes[i];
                if (p->kind != kind)
                        continue;
                strbuf_adds(b, first ? "{" : ",{");
                first = false;
                add_member(b, "name", p->name);
                add_member(b, "instance", p->instance);
                if (p->pid > 0)
                        strbuf_addf(b, "\"pid\":%d,", (int)p->pid);
                else
                        strbuf_adds(b, "\"pid\":null,");
                strbuf_addf(b, "\"state\":\"%s\",\"restarts\":%u}", v->stopping && p->pid <= 0 ? "stopped" : states[p->state], p->restarts);
        }
        strbuf_addc(b, ']');
}

static char *url(int port)
{
        struct strbuf b = {0};
        if (port <= 0)
                return NULL;
        strbuf_addf(&b, "http://127.0.0.1:%d", port);
        return strbuf_take(&b);
}

void state_write(struct supervisor *v)
{
        const struct stack *s = v->stack;
        _cleanup_(freep) char *public_url = url(v->public_port), *admin_url = url(v->admin_port);
        _cleanup_(freep) char *token = stack_path(s, "secrets/admin-token"), *path = stack_path(s, "run/state.json");
        _cleanup_(strbuf_done) struct strbuf b = {0}, nats_file = {0};

        if (s->nats_passwords)
                strbuf_addf(&nats_file, "%s/default", s->nats_passwords);
        strbuf_addc(&b, '{');
        add_member(&b, "public_url", public_url);
        add_member(&b, "admin_url", admin_url);
        add_member(&b, "admin_token_file", token);
        add_member(&b, "nats_url", s->nats_url);
        add_member(&b, "nats_user", s->nats_passwords ? "default" : NULL);
        add_member(&b, "nats_password_file", nats_file.s);
        /* the owner's way in; of somebody else's database the URL may hold a password */
        add_member(&b, "database_url", s->external ? s->service_database_url : s->database_url);
        add_member(&b, "database_passfile", s->database_passfile);
        add_member(&b, "state_directory", s->state);
        strbuf_addf(&b, "\"pid\":%d,\"engines\":", (int)getpid());
        add_processes(v, PROCESS_ENGINE, &b);
        strbuf_adds(&b, ",\"services\":");
        add_processes(v, PROCESS_SERVICE, &b);
        strbuf_adds(&b, "}\n");
        int r = write_file_atomic(path, 0644, b.s, b.len);
        if (r < 0)
                say_errno(path, r);
}

void state_remove(struct supervisor *v)
{
        _cleanup_(freep) char *path = stack_path(v->stack, "run/state.json");
        unlink(path);
}
