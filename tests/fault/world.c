/* Starts and supervises. A service that was killed is started again a little later; one that ends by itself has failed the run. */
#include "world.h"

#include "base/util.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const services[] = {"intake", "board", "pricing", "payments", "payments", "execution", "execution", "ledger", "ledger", "payouts",
        "meta-repair", "meta-repair", "feed", "webhooks", "webhooks"};

static const struct {
        const char *name, *registration; /* url and status_url are filled in */
        bool asked;
} operators[WORLD_OPERATORS] = {
        {"keeper", "\"tags\":[\"fault_keeper\"]", true},
        {"spare", "\"tags\":[\"fault_keeper\"],\"fallback_for\":[\"keeper\"]", true},
        {"again", "\"tags\":[\"fault_again\"],\"idempotent\":true", false},
        {"mute", "\"tags\":[\"fault_mute\"]", false},
};

static const struct {
        const char *type, *steps;
} flows[] = {
        {"fault:keeper", "{\"tag\":\"fault_keeper\"}"},
        {"fault:again", "{\"tag\":\"fault_again\"}"},
        {"fault:mute", "{\"tag\":\"fault_mute\"}"},
        {"fault:desk", "{\"tag\":\"fault_desk\"}"},
        {"fault:two", "{\"tag\":\"fault_keeper\"},{\"tag\":\"puz19_text\"}"},
};

static void admin_post(struct world *w, const char *path, const char *body)
{
        long status;
        _cleanup_(freep) char *answer = stack_http(w->stack, true, "POST", path, NULL, body, &status);

        if (status != 200 && status != 201) {
                fprintf(stderr, "fault: POST %s %s: %ld %s\n", path, body, status, answer);
                abort();
        }
}

static void register_work(struct world *w)
{
        char body[512];

        for (size_t i = 0; i < WORLD_OPERATORS; i++) {
                int port = proxy_port(w->proxies[WORLD_KEEPER + i]);
                char status_url[96] = "";

                if (operators[i].asked)
                        snprintf(status_url, sizeof(status_url), "\"status_url\":\"http://127.0.0.1:%d/status\",", port);
                snprintf(body, sizeof(body), "{\"name\":\"%s\",\"kind\":\"http\",\"url\":\"http://127.0.0.1:%d/run\",%s\"timeout_ms\":3000,%s}",
                        operators[i].name, port, status_url, operators[i].registration);
                admin_post(w, "/operators", body);
        }
        snprintf(body, sizeof(body),
                "{\"name\":\"" DESK "\",\"kind\":\"bus\",\"answers_status\":true,\"tags\":[\"fault_desk\"],\"timeout_ms\":2000,\"lease_ms\":%d}",
                DESK_LEASE_MS);
        admin_post(w, "/operators", body);
        for (size_t i = 0; i < ARRAY_SIZE(flows); i++) {
                snprintf(body, sizeof(body),
                        "{\"type\":\"%s\",\"name\":\"fault_flow_%zu\",\"base\":\"10.00\",\"per_unit\":\"0.01\",\"currency\":\"EUR\",\"steps\":[%s]}",
                        flows[i].type, i, flows[i].steps);
                admin_post(w, "/flows", body);
        }
}

static void subscribe(struct world *w)
{
        static const char *const types[] = {HOOKS_TYPES};
        _cleanup_(strbuf_done) struct strbuf body = {0};
        long status;

        strbuf_addf(&body, "{\"url\":\"http://127.0.0.1:%d/hook\",\"types\":[", proxy_port(w->proxies[WORLD_HOOKS]));
        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                strbuf_addf(&body, "%s\"%s\"", i ? "," : "", types[i]);
        strbuf_adds(&body, "]}");
        _cleanup_(freep) char *answer = stack_http(w->stack, true, "POST", "/webhooks", NULL, body.s, &status);
        _cleanup_(freep) char *secret = status == 201 ? json_at(answer, "secret") : NULL;
        if (!secret)
                die("fault: no subscription");
        hooks_secret(w->hooks, secret);
}

/* Rules of minutes and hours are rules of seconds here, so that meta-repair has work while it is hurt. Nothing that would end well is given up. */
static void hurry_repair(struct world *w)
{
        free(pg_fixture_ask(w->stack->pg,
                "INSERT INTO rule (kind, step, version, issue, antibody, basis, late, deadline, attempts, backoff_first, backoff_max, changed_by, "
                "why)"
                " SELECT DISTINCT ON (kind, step) kind, step, version + 1, issue, antibody, basis, least(late, interval '2 s'),"
                "   least(deadline, interval '4 s'), CASE WHEN antibody = 'ring_again' OR antibody = 'ask_operator' THEN 1000 ELSE attempts END,"
                "   interval '1 s', interval '2 s', 'fault', 'a run is short' FROM rule ORDER BY kind, step, version DESC"));
}

static void start_proxies(struct world *w, uint64_t seed)
{
        char listen_path[128], to_path[128];
        const char *pg_dir = strstr(pg_fixture_url(w->stack->pg), "host=") + strlen("host=");

        snprintf(w->pg_dir, sizeof(w->pg_dir), "%s/pg", w->stack->dir);
        if (mkdir(w->pg_dir, 0755) < 0)
                die("mkdir");
        snprintf(listen_path, sizeof(listen_path), "%s/.s.PGSQL.5432", w->pg_dir);
        snprintf(to_path, sizeof(to_path), "%.*s/.s.PGSQL.5432", (int)strcspn(pg_dir, " "), pg_dir);
        w->proxies[WORLD_PG] =
                proxy_start(&(struct proxy_config){.name = "postgresql", .listen_path = listen_path, .to_path = to_path, .seed = seed});
        w->proxies[WORLD_NATS] =
                proxy_start(&(struct proxy_config){.name = "nats", .to_port = nats_fixture_port(w->stack->nats), .nats = true, .seed = seed + 1});
        for (size_t i = 0; i < WORLD_OPERATORS; i++) {
                int port = atoi(strrchr(fake_operator_url(w->operators[i].fake), ':') + 1);

                w->proxies[WORLD_KEEPER + i] = proxy_start(&(struct proxy_config){.name = operators[i].name, .to_port = port, .seed = seed + 2 + i});
        }
        w->proxies[WORLD_PROVIDER] = proxy_start(&(struct proxy_config){
                .name = "provider", .to_port = atoi(strrchr(fake_provider_url(w->provider), ':') + 1), .seed = seed + WORLD_PROVIDER});
        w->proxies[WORLD_HOOKS] =
                proxy_start(&(struct proxy_config){.name = "hooks", .to_port = (int)hooks_port(w->hooks), .seed = seed + WORLD_HOOKS});
        snprintf(w->provider_setting, sizeof(w->provider_setting), "AETHELOS_PAYMENT_HTTP_URL=http://127.0.0.1:%d",
                proxy_port(w->proxies[WORLD_PROVIDER]));
        snprintf(w->pg_url, sizeof(w->pg_url), "host=%s dbname=postgres", w->pg_dir);
        snprintf(w->nats_url, sizeof(w->nats_url), "nats://127.0.0.1:%d", proxy_port(w->proxies[WORLD_NATS]));
        w->stack->database_url = w->pg_url;
        w->stack->nats_url = w->nats_url;
}

void world_start(struct world *w, uint64_t seed)
{
        bool by_provider = seed % 2 == 1; /* else a person confirms payments and refunds */
        struct bus_config config = {.name = "fault", .inbox_prefix = "_INBOX.fault"};

        *w = (struct world){.random = {seed}, .freeze_max_ms = 3000};
        for (size_t i = 0; i < WORLD_OPERATORS; i++)
                w->operators[i] = (struct audit_operator){
                        .name = operators[i].name, .fake = fake_operator_start(operators[i].name), .asked = operators[i].asked};
        w->operators[WORLD_OPERATORS] = (struct audit_operator){.name = DESK, .asked = true};
        w->provider = fake_provider_start();
        w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        w->hooks = hooks_start(w->wake_fd, seed);
        w->stack = stack_start_bare();
        start_proxies(w, seed);
        hurry_repair(w);
        /* The operators fail on purpose, again and again. One that is avoided for minutes would outlast the liveness phase; and of jobs that
         * everybody refuses, a pause ends one. */
        w->stack->settings[0] = "AETHELOS_AVOID_FIRST_MS=500";
        w->stack->settings[1] = "AETHELOS_AVOID_MAX_MS=500";
        w->stack->settings[2] = w->provider_setting;
        w->stack->settings[3] = "AETHELOS_PAYMENT_HTTP_TIMEOUT_MS=2000";
        w->stack->settings[4] = "AETHELOS_WEBHOOK_PRIVATE_ADDRESSES=true";
        w->stack->settings[5] = "AETHELOS_WEBHOOK_FIRST_RETRY_MS=50";
        w->stack->settings[6] = "AETHELOS_WEBHOOK_TIMEOUT_MS=1000";
        if (by_provider)
                w->stack->settings[7] = "AETHELOS_PAYMENT_DRIVER=http";
        for (size_t i = 0; i < ARRAY_SIZE(services); i++)
                stack_spawn(w->stack, services[i], NULL);
        stack_wait_ready(w->stack);
        register_work(w);
        subscribe(w);
        config.url = w->nats_url;
        if (bus_open(&config, &w->bus) < 0)
                die("fault: no bus");
        w->desk = desk_new(w->bus);
        load_open(&w->load, w->stack, by_provider ? w->provider : NULL, w->bus, w->desk, seed);
        auditor_open(&w->auditor, w->stack, &w->load, w->hooks, w->operators, ARRAY_SIZE(w->operators));
}

void world_end(struct world *w)
{
        load_done(&w->load);
        auditor_done(&w->auditor);
        w->bus = bus_free(w->bus);
        w->desk = desk_free(w->desk);
        w->stack = stack_free(w->stack);
        w->hooks = hooks_free(w->hooks);
        close(w->wake_fd);
        for (size_t i = 0; i < WORLD_PROXY_COUNT; i++)
                w->proxies[i] = proxy_free(w->proxies[i]);
        for (size_t i = 0; i < WORLD_OPERATORS; i++)
                w->operators[i].fake = fake_operator_free(w->operators[i].fake);
        w->provider = fake_provider_free(w->provider);
        strbuf_done(&w->broken);
}

void world_later(struct world *w, enum world_cure cure, int64_t ms, pid_t pid, const char *name)
{
        struct world_due *d;

        if (w->n_due == ARRAY_SIZE(w->due))
                die("fault: too many faults at once");
        d = &w->due[w->n_due++];
        *d = (struct world_due){.cure = cure, .at_ms = now_mono_ms() + ms, .pid = pid};
        snprintf(d->name, sizeof(d->name), "%s", name ? name : "");
}

bool world_is_hurt(const struct world *w, pid_t pid)
{
        for (size_t i = 0; i < w->n_due; i++)
                if (w->due[i].pid == pid)
                        return true;
        return false;
}

static void cure(struct world *w, const struct world_due *d)
{
        switch (d->cure) {
        case CURE_SPAWN:
                stack_spawn(w->stack, d->name, NULL);
                break;
        case CURE_THAW:
                kill(d->pid, SIGCONT);
                break;
        case CURE_NATS_START:
                nats_fixture_restart(w->stack->nats);
                w->nats_hurt = false;
                break;
        case CURE_NATS_THAW:
                nats_fixture_resume(w->stack->nats);
                w->nats_hurt = false;
                break;
        case CURE_PG_START:
                pg_fixture_restart(w->stack->pg);
                w->pg_hurt = false;
                break;
        case CURE_PROVIDER:
                fake_provider_mode(w->provider, "ok");
                break;
        }
}

static void cure_due(struct world *w, int64_t now)
{
        for (size_t i = 0; i < w->n_due;)
                if (w->due[i].at_ms <= now) {
                        struct world_due d = w->due[i];

                        w->due[i] = w->due[--w->n_due];
                        cure(w, &d);
                } else {
                        i++;
                }
}

static void forget_thaw(struct world *w, pid_t pid)
{
        for (size_t i = 0; i < w->n_due; i++)
                if (w->due[i].pid == pid && w->due[i].cure == CURE_THAW) {
                        w->due[i] = w->due[--w->n_due];
                        return;
                }
}

static void reap(struct world *w)
{
        struct stack *s = w->stack;

        for (size_t i = 0; i < s->n;) {
                struct stack_process p = s->processes[i];
                int status;

                if (waitpid(p.pid, &status, WNOHANG) <= 0) {
                        i++;
                        continue;
                }
                s->processes[i] = s->processes[--s->n];
                forget_thaw(w, p.pid);
                if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
                        strbuf_addf(&w->broken, "%s (pid %d) ended by itself, wait status 0x%x; its log is %s/%s.log\n", p.name, (int)p.pid,
                                (unsigned)status, s->dir, p.name);
                world_later(w, CURE_SPAWN, fault_random_between(&w->random, 0, 800), 0, p.name);
        }
}

void world_round(struct world *w, int ms)
{
        struct pollfd fds[3] = {
                {.fd = w->wake_fd, .events = POLLIN}, {.fd = bus_fd(w->bus), .events = POLLIN}, {.fd = httpc_fd(w->load.http), .events = POLLIN}};
        uint64_t count;

        (void)poll(fds, 3, ms);
        (void)!read(w->wake_fd, &count, sizeof(count));
        (void)bus_maintain(w->bus);
        load_round(&w->load);
        desk_round(w->desk);
        hooks_round(w->hooks);
        (void)bus_flush(w->bus);
        reap(w);
        cure_due(w, now_mono_ms());
}

void world_heal(struct world *w)
{
        for (size_t i = 0; i < WORLD_PROXY_COUNT; i++)
                proxy_order(w->proxies[i], PROXY_HEAL, 0);
        hooks_behave(w->hooks);
        reap(w);
        cure_due(w, INT64_MAX);
}
