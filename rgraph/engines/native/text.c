/* Numbers from lines of text: "7 |name 1 2.5 |other 3:1 8:0.5", CNTK's text format. */

#include "text.h"

#include <stdlib.h>
#include <string.h>

enum { TEXT_OK, TEXT_NO_BAR, TEXT_NO_NAME, TEXT_NO_NUMBER, TEXT_TOO_MANY, TEXT_NO_INDEX,
       TEXT_LARGE_INDEX, TEXT_TOO_MANY_SAMPLES };

static int text_blank(char c) { return c == ' ' || c == '\t'; }

static int text_ends(char c) { return (unsigned char)c < ' ' && c != '\t'; }

/* The number at p; where it ends, or NULL if there is none. */
static const char *text_number(const char *p, const char *end, float *number)
{
    static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
        1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *begin = p;
    int negative = 0, digits = 0, exponent = 0;
    uint64_t whole = 0;
    if (p < end && (*p == '-' || *p == '+'))
        negative = *p++ == '-';
    const char *first = p;
    for (; p < end && (unsigned)(*p - '0') < 10; ++p)
        whole = whole * 10 + (unsigned)(*p - '0');
    digits = (int)(p - first);
    if (p < end && *p == '.') {
        const char *point = ++p;
        for (; p < end && (unsigned)(*p - '0') < 10; ++p)
            whole = whole * 10 + (unsigned)(*p - '0');
        exponent = (int)(point - p);
        digits -= exponent;
    }
    if (!digits)
        return NULL;
    if (p < end && (*p == 'e' || *p == 'E')) {
        const char *sign = ++p;
        int power = 0;
        if (p < end && (*p == '-' || *p == '+'))
            ++p;
        const char *power_first = p;
        for (; p < end && (unsigned)(*p - '0') < 10; ++p)
            power = power < 10000 ? power * 10 + (*p - '0') : power;
        if (p == power_first)
            return NULL;
        exponent += *sign == '-' ? -power : power;
    }
    if (p < end && !text_blank(*p) && !text_ends(*p) && *p != '|' && *p != ':')
        return NULL;
    double value;
    if (digits < 19 && whole < (UINT64_C(1) << 53) && exponent >= -22 && exponent <= 22) {
        value = exponent < 0 ? (double)whole / powers[-exponent] : (double)whole * powers[exponent];
        value = negative ? -value : value;
    } else {
        char copy[512], *stop;
        size_t size = (size_t)(p - begin) < sizeof copy - 1 ? (size_t)(p - begin) : sizeof copy - 1;
        if ((size_t)(p - begin) > size)
            return NULL;
        memcpy(copy, begin, size);
        copy[size] = 0;
        value = strtod(copy, &stop);
    }
    *number = (float)value;
    return p;
}

static const char *text_dense(const char *p, const char *end, struct text_stream *s, int *fault)
{
    float *row = s->values + s->samples * s->dimension;
    int64_t count = 0;
    for (;;) {
        while (p < end && text_blank(*p))
            ++p;
        if (p == end || text_ends(*p) || *p == '|')
            break;
        if (count == s->dimension) {
            *fault = TEXT_TOO_MANY;
            return p;
        }
        const char *after = p;
        unsigned whole = 0; /* most are whole numbers of few digits */
        while (after < end && after < p + 7 && (unsigned)(*after - '0') < 10)
            whole = whole * 10 + (unsigned)(*after++ - '0');
        if (after > p && after < end && *after == ' ') {
            row[count++] = (float)whole;
            p = after + 1;
            continue;
        }
        after = text_number(p, end, row + count);
        if (!after || (after < end && *after == ':')) {
            *fault = TEXT_NO_NUMBER;
            return p;
        }
        p = after;
        ++count;
    }
    memset(row + count, 0, (size_t)(s->dimension - count) * sizeof *row);
    return p;
}

static const char *text_sparse(const char *p, const char *end, struct text_stream *s, int *fault)
{
    for (;;) {
        while (p < end && text_blank(*p))
            ++p;
        if (p == end || text_ends(*p) || *p == '|')
            break;
        const char *begin = p;
        int64_t index = 0;
        while (p < end && (unsigned)(*p - '0') < 10 && index < INT64_C(1) << 40)
            index = index * 10 + (*p++ - '0');
        if (p == begin || p == end || *p != ':' || s->numbers == s->number_room) {
            *fault = TEXT_NO_INDEX;
            return begin;
        }
        if (index >= s->dimension) {
            *fault = TEXT_LARGE_INDEX;
            return begin;
        }
        const char *after = text_number(++p, end, s->values + s->numbers);
        if (!after || (after < end && *after == ':')) {
            *fault = TEXT_NO_NUMBER;
            return p;
        }
        s->columns[s->numbers++] = (int32_t)index;
        p = after;
    }
    s->ends[s->samples] = s->numbers;
    return p;
}

int parse_text(const char *text, int64_t size, struct text_stream *streams, int count,
               int64_t *where)
{
    const char *p = text, *end = text + size;
    int fault = TEXT_OK;
    for (int32_t line = 0; p < end; ++line) {
        while (p < end && ((unsigned)(*p - '0') < 10 || text_blank(*p)))
            ++p;
        while (p < end && !text_ends(*p)) {
            if (*p != '|') {
                *where = p - text;
                return TEXT_NO_BAR;
            }
            const char *name = ++p;
            while (p < end && !text_blank(*p) && !text_ends(*p) && *p != '|' && *name != '#')
                ++p;
            struct text_stream *s = NULL;
            if (p < end && p == name && *p != '#') {
                *where = p - text;
                return TEXT_NO_NAME;
            }
            for (int i = 0; i < count && !s; ++i)
                if (streams[i].name_size == p - name && !memcmp(streams[i].name, name, p - name))
                    s = streams + i;
            if (!s) { /* a comment, or a stream that nobody asked for */
                while (p < end && *p != '|' && !text_ends(*p))
                    ++p;
                continue;
            }
            if (s->samples == s->sample_room) {
                *where = name - text;
                return TEXT_TOO_MANY_SAMPLES;
            }
            p = s->sparse ? text_sparse(p, end, s, &fault) : text_dense(p, end, s, &fault);
            if (fault) {
                *where = p - text;
                return fault;
            }
            s->lines[s->samples++] = line;
        }
        while (p < end && *p != '\n')
            ++p;
        ++p;
    }
    return TEXT_OK;
}
