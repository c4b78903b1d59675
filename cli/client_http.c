/* HTTP for the command line, on libcurl's easy interface.
 *
 * Invariant: a lost answer is told apart from a request that never left (`connected`), because only the latter may be called "nothing happened".
 * A crash here leaves nothing behind; a POST that was under way is found again by its Idempotency-Key. */
#include "client_http.h"

#include "base/util.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CLIENT_BODY_MAX (64 * 1024 * 1024)

void http_reply_done(struct http_reply *r)
{
        strbuf_done(&r->body);
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
        struct strbuf *b = arg;
        if (b->len + size * n > CLIENT_BODY_MAX)
                return 0;
        strbuf_add(b, data, size * n);
        return size * n;
}

static CURL *curl_handle(void)
{
        static CURL *handle; /* kept, so that polling reuses its connection; one thread */
        if (!handle) {
                if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                        die("libcurl does not start");
                handle = curl_easy_init();
                if (!handle)
                        die("libcurl does not start");
        }
        curl_easy_reset(handle);
        return handle;
}

static struct curl_slist *header_add(struct curl_slist *list, const char *name, const char *value)
{
        _cleanup_(strbuf_done) struct strbuf b = {0};
        strbuf_addf(&b, "%s: %s", name, value);
        struct curl_slist *longer = curl_slist_append(list, b.s);
        if (!longer)
                die("out of memory");
        return longer;
}

int http_do(const struct http_call *call, struct http_reply *ret_reply)
{
        CURL *h = curl_handle();
        struct curl_slist *headers = NULL;
        *ret_reply = (struct http_reply){0};
        if (call->token) {
                _cleanup_(strbuf_done) struct strbuf bearer = {0};
                strbuf_addf(&bearer, "Bearer %s", call->token);
                headers = header_add(headers, "Authorization", bearer.s);
        }
        if (call->idempotency_key)
                headers = header_add(headers, "Idempotency-Key", call->idempotency_key);
        curl_easy_setopt(h, CURLOPT_URL, call->url);
        /* A redirect or another protocol would carry the token to a place nobody named. */
        curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
        curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)call->timeout_ms);
        curl_easy_setopt(h, CURLOPT_USERAGENT, "aethelos/" AETHELOS_VERSION);
        curl_easy_setopt(h, CURLOPT_ERRORBUFFER, ret_reply->error);
        curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(h, CURLOPT_WRITEDATA, &ret_reply->body);
        if (strcmp(call->method, "POST") == 0) {
                headers = header_add(headers, "Content-Type", "application/json");
                headers = header_add(headers, "Expect", ""); /* libcurl would wait a second for "100 Continue" */
                curl_easy_setopt(h, CURLOPT_POST, 1L);
                curl_easy_setopt(h, CURLOPT_POSTFIELDS, call->body ? call->body : "");
                curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body_len);
        }
        if (strcmp(call->method, "DELETE") == 0)
                curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, call->method);
        curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
        CURLcode code = curl_easy_perform(h);
        long status = 0;
        curl_off_t retry_after = 0, connected_us = 0;
        curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(h, CURLINFO_RETRY_AFTER, &retry_after);
        curl_easy_getinfo(h, CURLINFO_PRETRANSFER_TIME_T, &connected_us);
        curl_easy_setopt(h, CURLOPT_ERRORBUFFER, NULL);
        curl_slist_free_all(headers);
        ret_reply->retry_after_s = retry_after;
        ret_reply->connected = code == CURLE_OK || connected_us > 0;
        if (code != CURLE_OK) {
                if (!ret_reply->error[0])
                        snprintf(ret_reply->error, sizeof(ret_reply->error), "%s", curl_easy_strerror(code));
                return -EIO;
        }
        ret_reply->status = (int)status;
        return 0;
}
