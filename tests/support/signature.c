#include "tests/support/signature.h"

#include "base/strbuf.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

bool signature_holds(const char *secret, const char *id, const char *timestamp, const char *signature, struct slice body)
{
        _cleanup_(strbuf_done) struct strbuf text = {0};
        unsigned char key[64], mac[EVP_MAX_MD_SIZE], base64[64];
        unsigned len = 0;

        if (!id || !timestamp || !signature || strncmp(secret, "whsec_", 6) != 0 || strlen(secret) != 6 + 44)
                return false;
        if (llabs(atoll(timestamp) - now_wall_ms() / 1000) > 300)
                return false;
        if (EVP_DecodeBlock(key, (const unsigned char *)secret + 6, 44) != 33)
                return false;
        strbuf_addf(&text, "%s.%s.%.*s", id, timestamp, (int)body.len, body.s);
        HMAC(EVP_sha256(), key, 32, (const unsigned char *)text.s, text.len, mac, &len);
        EVP_EncodeBlock(base64, mac, (int)len);
        /* One of them, with blanks between. */
        for (size_t n; *signature; signature += n + strspn(signature + n, " ")) {
                n = strcspn(signature, " ");
                if (n == 3 + 44 && strncmp(signature, "v1,", 3) == 0 && strncmp(signature + 3, (const char *)base64, 44) == 0)
                        return true;
        }
        return false;
}
