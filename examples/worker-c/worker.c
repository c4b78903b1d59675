/* A worker of an Aethelos operator on the bus: it turns input.text round, and takes its time. With the official client (Debian: libnats-dev).
 *   cc -o worker worker.c -lnats
 *   worker OPERATOR NATS_URL USER PASSWORD_FILE     (`./aethelos operators worker OPERATOR` prints the last three)
 * Run as many as you like. It accepts a run, says with every beat that it still has it, and says the result until it hears that it is committed.
 * Asked about a run, or given it again, it answers what came of it, for its last 64 runs and while it lives. */
#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static natsConnection *nc;
static char subject[128], name[128];

static void must(natsStatus s, const char *what)
{
        if (s == NATS_OK)
                return;
        fprintf(stderr, "worker: %s: %s\n", what, natsStatus_GetText(s));
        exit(1);
}

/* What came of the last runs; questions come on a thread of the client's. */
static struct {
        char run[64], answer[1200]; /* answer empty: free */
} known[64];
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER;

static size_t find(const char *run)
{
        size_t at = 0;

        while (at < 64 && strcmp(known[at].run, run) != 0)
                at++;
        return at;
}

/* "" when nothing is known. */
static void recall(const char *run, char *ret_answer, size_t size)
{
        pthread_mutex_lock(&known_lock);
        size_t at = find(run);
        snprintf(ret_answer, size, "%s", at < 64 ? known[at].answer : "");
        pthread_mutex_unlock(&known_lock);
}

static void remember(const char *run, const char *answer)
{
        static size_t next;

        pthread_mutex_lock(&known_lock);
        size_t at = find(run);
        if (at == 64)
                at = next++ % 64;
        snprintf(known[at].run, sizeof(known[at].run), "%s", run);
        snprintf(known[at].answer, sizeof(known[at].answer), "%s", answer);
        pthread_mutex_unlock(&known_lock);
}

/* What stands behind the first `"member":`, up to one of `ends`; "" when it is not there. Enough for texts without escapes; use a JSON library for
 * more. */
static void member(const char *json, const char *member_name, const char *ends, char *ret, size_t size)
{
        char pattern[32];
        const char *at;

        ret[0] = '\0';
        snprintf(pattern, sizeof(pattern), "\"%s\":", member_name);
        at = strstr(json, pattern);
        if (!at)
                return;
        at += strlen(pattern);
        at += strspn(at, " \"");
        snprintf(ret, size, "%.*s", (int)strcspn(at, ends), at);
}

/* A text that can be turned byte by byte and put into JSON as it is. */
static int plain(const char *s)
{
        size_t n = 0;

        while (s[n] >= ' ' && s[n] <= '~' && s[n] != '\\')
                n++;
        return !s[n] && n < 1000;
}

/* One beat or result, said until it is answered: held, committed, or over. */
static void say(const char *what, const char *run, const char *token, const char *more, char *ret_status, size_t size)
{
        char to[160], body[4096];
        natsMsg *answer = NULL;

        snprintf(to, sizeof(to), "%s.%s", subject, what);
        snprintf(body, sizeof(body), "{\"run_id\":\"%s\",\"token\":%s,\"worker\":\"%s\",%s}", run, token, name, more);
        while (natsConnection_RequestString(&answer, nc, to, body, 2000) != NATS_OK)
                nats_Sleep(200); /* nobody there, or no answer in time */
        member(natsMsg_GetData(answer), "status", "\"", ret_status, size);
        natsMsg_Destroy(answer);
}

static void work(const char *call)
{
        char run[64], token[32], text[1024], status[32], more[1190], answer[1200];
        const char *seconds = getenv("WORK_SECONDS");
        int pause_ms = (int)((seconds ? strtod(seconds, NULL) : 1) * 250);
        size_t len;

        member(call, "run_id", "\"", run, sizeof(run));
        member(call, "token", ",}", token, sizeof(token));
        member(call, "text", "\"", text, sizeof(text));
        for (int percent = 25; percent < 100; percent += 25) {
                nats_Sleep(pause_ms);
                snprintf(more, sizeof(more), "\"percent\":%d,\"progress\":\"turning\"", percent);
                say("beat", run, token, more, status, sizeof(status));
                if (strcmp(status, "held") != 0) {
                        remember(run, "");
                        return; /* the run is not ours any more */
                }
        }
        len = strlen(text);
        for (size_t i = 0; i < len / 2; i++) {
                char c = text[i];
                text[i] = text[len - 1 - i];
                text[len - 1 - i] = c;
        }
        snprintf(more, sizeof(more), "\"status\":\"done\",\"output\":{\"text\":\"%s\"}", text);
        snprintf(answer, sizeof(answer), "{%s}", more);
        remember(run, answer); /* before it is said: what is done is done once */
        say("result", run, token, more, status, sizeof(status));
        printf("%s %s\n", run, status);
        fflush(stdout);
}

/* Every worker hears every question, and is silent about runs that it does not know. */
static void on_question(natsConnection *c, natsSubscription *sub, natsMsg *question, void *arg)
{
        char run[64], answer[1200];

        (void)sub;
        (void)arg;
        member(natsMsg_GetData(question), "run_id", "\"", run, sizeof(run));
        recall(run, answer, sizeof(answer));
        if (answer[0])
                natsConnection_PublishString(c, natsMsg_GetReply(question), answer);
        natsMsg_Destroy(question);
}

int main(int argc, char **argv)
{
        char password[256] = "", inbox[128], host[64] = "", accepted[200], status[160], run[64], text[1024], answer[1200];
        natsOptions *options = NULL;
        natsSubscription *sub = NULL, *questions = NULL;
        FILE *f = argc == 5 ? fopen(argv[4], "r") : NULL;

        if (!f || !fgets(password, sizeof(password), f)) {
                fprintf(stderr, "usage: worker OPERATOR NATS_URL USER PASSWORD_FILE\n");
                return 2;
        }
        fclose(f);
        password[strcspn(password, "\r\n")] = '\0';
        (void)gethostname(host, sizeof(host) - 1);
        snprintf(name, sizeof(name), "%s %d", host, (int)getpid());
        snprintf(subject, sizeof(subject), "aethelos.operator.%s", argv[1]);
        snprintf(inbox, sizeof(inbox), "_INBOX_%s", argv[3]);
        snprintf(accepted, sizeof(accepted), "{\"status\":\"accepted\",\"worker\":\"%s\"}", name);

        must(natsOptions_Create(&options), "options");
        must(natsOptions_SetURL(options, argv[2]), "url");
        must(natsOptions_SetUserInfo(options, argv[3], password), "user");
        must(natsOptions_SetCustomInboxPrefix(options, inbox), "inbox");
        must(natsOptions_SetMaxReconnect(options, -1), "reconnects");
        must(natsConnection_Connect(&nc, options), "connect");
        must(natsConnection_QueueSubscribeSync(&sub, nc, subject, argv[1]), "subscribe");
        snprintf(status, sizeof(status), "%s.status", subject);
        must(natsConnection_Subscribe(&questions, nc, status, on_question, NULL), "subscribe");
        for (;;) {
                natsMsg *call = NULL;
                natsStatus s = natsSubscription_NextMsg(&call, sub, 1000);

                if (s == NATS_TIMEOUT)
                        continue;
                must(s, "next call");
                member(natsMsg_GetData(call), "run_id", "\"", run, sizeof(run));
                recall(run, answer, sizeof(answer));
                member(natsMsg_GetData(call), "text", "\"", text, sizeof(text));
                if (!answer[0] && !plain(text))
                        snprintf(answer, sizeof(answer),
                                "{\"status\":\"failed\",\"error\":\"less than 1000 plain ASCII characters are wanted\",\"refused\":true}");
                must(natsConnection_PublishString(nc, natsMsg_GetReply(call), answer[0] ? answer : accepted), "reply");
                if (!answer[0]) {
                        remember(run, "{\"status\":\"running\"}");
                        work(natsMsg_GetData(call)); /* one run after the other; start more workers for more */
                }
                natsMsg_Destroy(call);
        }
}
