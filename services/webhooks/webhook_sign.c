/* Pure but for the randomness of a new secret. The key is wiped when it was used. */
#include "webhook_sign.h"

#include "base/hash.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#define PREFIX    "whsec_"
#define KEY_BYTES 32
#define KEY_MAX   96

static void add_base64(struct strbuf *b, const uint8_t *bytes, size_t len)
{
        b->len += (size_t)EVP_EncodeBlock((unsigned char *)strbuf_grow(b, 4 * ((len + 2) / 3)), bytes, (int)len);
}

int webhook_secret_new(struct strbuf *b)
{
        uint8_t key[KEY_BYTES];
        int e = random_bytes(key, sizeof(key));

        if (e < 0)
                return e;
        strbuf_adds(b, PREFIX);
        add_base64(b, key, sizeof(key));
        explicit_bzero(key, sizeof(key));
        return 0;
}

static int read_key(const char *secret, uint8_t key[KEY_MAX], int *ret_len)
{
        size_t len = strlen(secret), padding = 0;

        if (strncmp(secret, PREFIX, strlen(PREFIX)) != 0)
                return -EINVAL;
        secret += strlen(PREFIX);
        len -= strlen(PREFIX);
        if (len == 0 || len % 4 != 0 || len / 4 * 3 > KEY_MAX)
                return -EINVAL;
        while (padding < 2 && secret[len - 1 - padding] == '=')
                padding++;
        *ret_len = EVP_DecodeBlock(key, (const unsigned char *)secret, (int)len);
        if (*ret_len <= (int)padding)
                return -EINVAL;
        *ret_len -= (int)padding; /* libcrypto decodes the padding as zeros */
        return 0;
}

int webhook_sign(struct strbuf *b, const char *secret, const char *id, int64_t timestamp_s, struct slice body)
{
        _cleanup_(strbuf_done) struct strbuf text = {0};
        uint8_t key[KEY_MAX], mac[EVP_MAX_MD_SIZE];
        unsigned mac_len = 0;
        int key_len, e = read_key(secret, key, &key_len);

        if (e < 0)
                return e;
        strbuf_addf(&text, "%s.%" PRId64 ".", id, timestamp_s);
        strbuf_add(&text, body.s, body.len);
        if (!HMAC(EVP_sha256(), key, key_len, (const unsigned char *)text.s, text.len, mac, &mac_len))
                die("libcrypto: HMAC");
        explicit_bzero(key, sizeof(key));
        strbuf_adds(b, "v1,");
        add_base64(b, mac, mac_len);
        return 0;
}
