/* SHA-256 over OpenSSL. Invariant: there is always a hash; a failing library ends the process, because a caller that went on with a wrong hash would
 * take one request for another.
 * The algorithm is looked up once: OpenSSL 3 otherwise searches its providers on every call, which costs more than hashing a short text. */
#include "hash.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/random.h>

static EVP_MD *sha256;

static void fetch_sha256(void)
{
        sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
        if (!sha256)
                die("OpenSSL has no SHA-256");
}

static EVP_MD_CTX *sha256_new(void)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        pthread_once(&once, fetch_sha256);
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        if (!ctx || EVP_DigestInit_ex(ctx, sha256, NULL) != 1)
                die("SHA-256 failed to start");
        return ctx;
}

static void sha256_add(EVP_MD_CTX *ctx, const void *data, size_t len)
{
        if (len && EVP_DigestUpdate(ctx, data, len) != 1)
                die("SHA-256 failed");
}

static void sha256_finish(EVP_MD_CTX *ctx, uint8_t ret_hash[SHA256_SIZE])
{
        if (EVP_DigestFinal_ex(ctx, ret_hash, NULL) != 1)
                die("SHA-256 failed to finish");
        EVP_MD_CTX_free(ctx);
}

void sha256_parts(const struct slice parts[], size_t n, uint8_t ret_hash[SHA256_SIZE])
{
        EVP_MD_CTX *ctx = sha256_new();
        for (size_t i = 0; i < n; i++) {
                uint8_t length[8];
                for (int k = 0; k < 8; k++)
                        length[k] = (uint8_t)((uint64_t)parts[i].len >> (56 - 8 * k));
                sha256_add(ctx, length, sizeof length);
                sha256_add(ctx, parts[i].s, parts[i].len);
        }
        sha256_finish(ctx, ret_hash);
}

void sha256_bytes(const void *data, size_t len, uint8_t ret_hash[SHA256_SIZE])
{
        EVP_MD_CTX *ctx = sha256_new();
        sha256_add(ctx, data, len);
        sha256_finish(ctx, ret_hash);
}

void hex_format(const uint8_t *bytes, size_t n, char *ret_text)
{
        for (size_t i = 0; i < n; i++)
                snprintf(ret_text + 2 * i, 3, "%02x", bytes[i]);
}

bool equal_constant_time(const void *a, size_t a_len, const void *b, size_t b_len)
{
        /* With unequal lengths b is compared with itself, so that the time depends on b's length alone and does not tell a's. */
        bool same_length = a_len == b_len;
        bool same_bytes = b_len == 0 || CRYPTO_memcmp(same_length ? a : b, b, b_len) == 0;
        return same_length & same_bytes;
}

int random_bytes(void *ret_bytes, size_t len)
{
        uint8_t *p = ret_bytes;
        while (len) {
                ssize_t got = getrandom(p, len, 0);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                p += got;
                len -= (size_t)got;
        }
        return 0;
}
