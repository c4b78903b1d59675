/* Which URLs may be called: http and https with a host, and nothing that libcurl would read differently from a person, such as a user name before the
 * host or a missing slash. Whether the host's address may be called is not decided here. */
#include "http/httpc.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define URL_MAX 8192

int http_url_check(const char *url)
{
        CURLU *u = NULL;
        char *part = NULL;
        int r = -EINVAL;

        if (!url || strlen(url) > URL_MAX)
                return -EINVAL;
        for (const char *c = url; *c; c++)
                if ((unsigned char)*c <= 0x20 || *c == 0x7f)
                        return -EINVAL;
        /* libcurl guesses at missing and surplus slashes. */
        if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)
                return -EINVAL;
        if (strchr(url, '/')[2] == '/')
                return -EINVAL;
        /* Its own parser, so that check and transfer agree. */
        u = curl_url();
        if (!u)
                die("out of memory: URL");
        if (curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
                goto out;
        if (curl_url_get(u, CURLUPART_SCHEME, &part, 0) != CURLUE_OK || (strcmp(part, "http") != 0 && strcmp(part, "https") != 0))
                goto out;
        curl_free(TAKE_PTR(part));
        if (curl_url_get(u, CURLUPART_HOST, &part, 0) != CURLUE_OK || *part == '\0')
                goto out;
        curl_free(TAKE_PTR(part));
        if (curl_url_get(u, CURLUPART_USER, &part, 0) != CURLUE_NO_USER)
                goto out;
        if (curl_url_get(u, CURLUPART_PASSWORD, &part, 0) != CURLUE_NO_PASSWORD)
                goto out;
        r = 0;
out:
        curl_free(part);
        curl_url_cleanup(u);
        return r;
}
