/* A worker of an Aethelos operator on the bus, as in ../worker-c, in protobuf: register the operator with "encoding": "protobuf".
 *   protoc-c --c_out=. --proto_path=../.. proto/aethelos.proto
 *   cc -I. -o worker worker.c proto/aethelos.pb-c.c -lnats -lprotobuf-c     (Debian: libnats-dev, protobuf-c-compiler, libprotobuf-c-dev)
 *   worker OPERATOR NATS_URL USER PASSWORD_FILE     (`./aethelos operators worker OPERATOR` prints the last three)
 * Run as many as you like. It turns input.text round, says with every beat that it still has the run, and the result until it hears that it is
 * committed. Asked about its last run, or given it again, it answers what came of it, while it lives. What is JSON in the messages (input, context,
 * output) is JSON text here too. */
#include "proto/aethelos.pb-c.h"

#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static natsConnection *nc;
static char subject[128], name[64];

/* The last run; questions come on a thread of the client's. */
static struct {
        char run[64], output[2048]; /* output empty: under way */
} last;
static pthread_mutex_t last_lock = PTHREAD_MUTEX_INITIALIZER;

static void must(natsStatus s, const char *what)
{
        if (s == NATS_OK)
                return;
        fprintf(stderr, "worker: %s: %s\n", what, natsStatus_GetText(s));
        exit(1);
}

/* A message to `to`. */
static natsMsg *packed(const char *to, const ProtobufCMessage *m)
{
        size_t len = protobuf_c_message_get_packed_size(m);
        uint8_t *bytes = malloc(len + 1);
        natsMsg *msg = NULL;

        if (!bytes)
                must(NATS_NO_MEMORY, "message");
        protobuf_c_message_pack(m, bytes);
        must(natsMsg_Create(&msg, to, NULL, (const char *)bytes, (int)len), "message");
        must(natsMsgHeader_Set(msg, "Content-Type", "application/protobuf"), "header");
        free(bytes);
        return msg;
}

/* One beat or result, said until it is answered. The answers to both have the same fields. */
static int say(const char *what, const ProtobufCMessage *m)
{
        char to[160];
        natsMsg *answer = NULL, *msg;
        Aethelos__BeatAnswer *said;
        int status = AETHELOS__BEAT_ANSWER__BEAT_STATUS__INVALID;

        snprintf(to, sizeof(to), "%s.%s", subject, what);
        msg = packed(to, m);
        while (natsConnection_RequestMsg(&answer, nc, msg, 2000) != NATS_OK)
                nats_Sleep(200); /* nobody there, or no answer in time */
        said = aethelos__beat_answer__unpack(NULL, (size_t)natsMsg_GetDataLength(answer), (const uint8_t *)natsMsg_GetData(answer));
        if (said) {
                status = (int)said->status;
                if (said->error)
                        fprintf(stderr, "worker: %s: %s\n", what, said->error);
                aethelos__beat_answer__free_unpacked(said, NULL);
        }
        natsMsg_Destroy(answer);
        natsMsg_Destroy(msg);
        return status;
}

/* {"text":"abc"} with the text turned round; 0 when it is too long, or no plain ASCII without escapes: use a JSON library for more. */
static int turn(const ProtobufCBinaryData *input, char *ret, size_t size)
{
        char text[1024] = "";
        size_t len;

        if (input->len >= size)
                return 0;
        snprintf(ret, size, "%.*s", (int)input->len, (const char *)input->data);
        if (strstr(ret, "\"text\":"))
                sscanf(strstr(ret, "\"text\":") + 7, " \"%1023[^\"]", text);
        len = strlen(text);
        for (size_t i = 0; i < len; i++)
                if (text[i] < ' ' || text[i] > '~' || text[i] == '\\')
                        return 0;
        if (len == sizeof(text) - 1)
                return 0;
        for (size_t i = 0; i < len / 2; i++) {
                char c = text[i];
                text[i] = text[len - 1 - i];
                text[len - 1 - i] = c;
        }
        snprintf(ret, size, "{\"text\":\"%s\"}", text);
        return 1;
}

/* `output` "": it is under way. */
static void remember(const char *run, const char *output)
{
        pthread_mutex_lock(&last_lock);
        snprintf(last.run, sizeof(last.run), "%s", run);
        snprintf(last.output, sizeof(last.output), "%s", output);
        pthread_mutex_unlock(&last_lock);
}

/* Whether the run is known; ret_output: what came of it, "" while it is under way. */
static int recall(const char *run, char *ret_output, size_t size)
{
        int known;

        pthread_mutex_lock(&last_lock);
        known = strcmp(run, last.run) == 0;
        snprintf(ret_output, size, "%s", last.output);
        pthread_mutex_unlock(&last_lock);
        return known;
}

static void work(const Aethelos__Call *call)
{
        const char *seconds = getenv("WORK_SECONDS");
        char output[2048];
        Aethelos__Beat beat = AETHELOS__BEAT__INIT;
        Aethelos__Result result = AETHELOS__RESULT__INIT;

        remember(call->run_id, "");
        beat.run_id = result.run_id = call->run_id;
        beat.token = result.token = call->token;
        beat.worker = result.worker = name;
        beat.progress = (char *)"turning";
        beat.has_percent = 1;
        for (beat.percent = 25; beat.percent < 100; beat.percent += 25) {
                nats_Sleep((int)((seconds ? strtod(seconds, NULL) : 1) * 250));
                if (say("beat", &beat.base) != AETHELOS__BEAT_ANSWER__BEAT_STATUS__HELD) {
                        remember("", "");
                        return; /* the run is not ours any more */
                }
        }
        (void)turn(&call->input, output, sizeof(output)); /* it can be: the call was accepted */
        remember(call->run_id, output);                   /* before it is said: what is done is done once */
        result.status = AETHELOS__RESULT__RESULT_STATUS__DONE;
        result.has_output = 1;
        result.output.data = (uint8_t *)output;
        result.output.len = strlen(output);
        printf("%s %s\n", call->run_id, say("result", &result.base) == AETHELOS__RESULT_ANSWER__COMMIT_STATUS__COMMITTED ? "committed" : "not taken");
        fflush(stdout);
}

static void respond(const natsMsg *to, const ProtobufCMessage *m)
{
        natsMsg *reply = packed(natsMsg_GetReply(to), m);

        must(natsConnection_PublishMsg(nc, reply), "reply");
        natsMsg_Destroy(reply);
}

/* Every worker hears every question, and is silent about runs that it does not know. */
static void on_question(natsConnection *c, natsSubscription *sub, natsMsg *msg, void *arg)
{
        Aethelos__Question *q = aethelos__question__unpack(NULL, (size_t)natsMsg_GetDataLength(msg), (const uint8_t *)natsMsg_GetData(msg));
        Aethelos__Answer answer = AETHELOS__ANSWER__INIT;
        char output[2048];

        (void)c, (void)sub, (void)arg;
        if (q && recall(q->run_id, output, sizeof(output))) {
                answer.has_output = output[0] != '\0';
                answer.status = answer.has_output ? AETHELOS__ANSWER__ANSWER_STATUS__DONE : AETHELOS__ANSWER__ANSWER_STATUS__RUNNING;
                answer.output.data = (uint8_t *)output;
                answer.output.len = strlen(output);
                respond(msg, &answer.base);
        }
        if (q)
                aethelos__question__free_unpacked(q, NULL);
        natsMsg_Destroy(msg);
}

int main(int argc, char **argv)
{
        char password[256] = "", inbox[128], host[32] = "", status[160], output[2048];
        natsOptions *options = NULL;
        natsSubscription *sub = NULL, *questions = NULL;
        Aethelos__Reply accepted = AETHELOS__REPLY__INIT, done = AETHELOS__REPLY__INIT, refused = AETHELOS__REPLY__INIT;
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
        accepted.status = AETHELOS__REPLY__REPLY_STATUS__ACCEPTED;
        accepted.worker = name;
        done.status = AETHELOS__REPLY__REPLY_STATUS__DONE;
        done.has_output = 1;
        refused.status = AETHELOS__REPLY__REPLY_STATUS__FAILED;
        refused.error = (char *)"less than 1000 plain ASCII characters are wanted";
        refused.has_refused = refused.refused = 1;

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
                natsMsg *msg = NULL;
                natsStatus s = natsSubscription_NextMsg(&msg, sub, 1000);
                Aethelos__Call *call;

                if (s == NATS_TIMEOUT)
                        continue;
                must(s, "next call");
                call = aethelos__call__unpack(NULL, (size_t)natsMsg_GetDataLength(msg), (const uint8_t *)natsMsg_GetData(msg));
                if (!call) {
                        fprintf(stderr, "worker: a call that is not protobuf: is the operator registered with \"encoding\": \"protobuf\"?\n");
                        exit(1);
                }
                if (recall(call->run_id, output, sizeof(output)) && output[0]) {
                        done.output.data = (uint8_t *)output;
                        done.output.len = strlen(output);
                        respond(msg, &done.base);
                } else if (!turn(&call->input, output, sizeof(output))) {
                        respond(msg, &refused.base);
                } else {
                        respond(msg, &accepted.base);
                        work(call); /* one run after the other; start more workers for more */
                }
                aethelos__call__free_unpacked(call, NULL);
                natsMsg_Destroy(msg);
        }
}
