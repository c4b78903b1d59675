/* Publishes the job in a file to Aethelos over NATS and waits for its receipt. With the official client (Debian: libnats-dev).
 *   cc -o publish publish.c -lnats
 *   publish FILE [NATS_URL USER PASSWORD_FILE]     (or the environment: NATS_URL, NATS_USER, NATS_PASSWORD_FILE, KEY)
 * A submission is safe once its receipt is there, and not before: until then it is repeated under the same key, which never makes a second job. */
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(natsStatus s, const char *what)
{
        if (s == NATS_OK)
                return;
        fprintf(stderr, "publish: %s: %s\n", what, natsStatus_GetText(s));
        exit(1);
}

/* The whole file; NUL behind it. */
static char *read_all(const char *path, int *ret_len)
{
        static char buffer[2][(1 << 20) + 1]; /* a submission has at most 1 MiB */
        static int n;
        char *text = buffer[n++];
        FILE *f = fopen(path, "r");

        if (!f) {
                perror(path);
                exit(2);
        }
        *ret_len = (int)fread(text, 1, 1 << 20, f);
        fclose(f);
        return text;
}

int main(int argc, char **argv)
{
        const char *url = argc > 2 ? argv[2] : getenv("NATS_URL"), *user = argc > 3 ? argv[3] : getenv("NATS_USER");
        const char *password_file = argc > 4 ? argv[4] : getenv("NATS_PASSWORD_FILE");
        char key[129], receipts[200], *job, *password;
        natsOptions *options = NULL;
        natsConnection *nc = NULL;
        natsSubscription *sub = NULL;
        int len, password_len;

        if (argc < 2 || !url || !user || !password_file) {
                fprintf(stderr, "usage: publish FILE [NATS_URL USER PASSWORD_FILE]\n");
                return 2;
        }
        job = read_all(argv[1], &len);
        password = read_all(password_file, &password_len);
        password[strcspn(password, "\r\n")] = '\0';
        if (getenv("KEY")) {
                snprintf(key, sizeof(key), "%s", getenv("KEY"));
        } else {
                FILE *f = fopen("/proc/sys/kernel/random/uuid", "r");
                if (!f || fscanf(f, "%128s", key) != 1)
                        return 1;
                fclose(f);
        }
        fprintf(stderr, "key %s\n", key);

        must(natsOptions_Create(&options), "options");
        must(natsOptions_SetURL(options, url), "url");
        must(natsOptions_SetUserInfo(options, user, password), "user");
        must(natsConnection_Connect(&nc, options), "connect");
        /* Listening begins before the first submission, or a quick receipt would be missed. */
        snprintf(receipts, sizeof(receipts), "aethelos.receipt.default.%s", key);
        must(natsConnection_SubscribeSync(&sub, nc, receipts), "subscribe");
        for (int wait = 1; wait <= 32; wait *= 2) {
                natsMsg *msg = NULL, *receipt = NULL;

                must(natsMsg_Create(&msg, "aethelos.job.submit.default", NULL, job, len), "message");
                must(natsMsgHeader_Set(msg, "Idempotency-Key", key), "header");
                must(natsMsgHeader_Set(msg, "Content-Type", "application/json"), "header");
                must(natsConnection_PublishMsg(nc, msg), "publish");
                natsMsg_Destroy(msg);
                if (natsSubscription_NextMsg(&receipt, sub, wait * 1000) != NATS_OK)
                        continue;
                printf("%.*s\n", natsMsg_GetDataLength(receipt), natsMsg_GetData(receipt));
                return strstr(natsMsg_GetData(receipt), "\"accepted\"") ? 0 : 1;
        }
        fprintf(stderr, "no receipt yet; run it again with KEY=%s\n", key);
        return 1;
}
