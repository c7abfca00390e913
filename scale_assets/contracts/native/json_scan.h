/* The tokens of JSON (RFC 8259), and dates and times in ISO 8601. A scanner gets where a token begins
   and where the block ends, reads nothing there or behind, and gives where the token ends, or NULL. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef const uint8_t *text;

enum {
    MAX_DIGITS = 19, /* of a number, which always fit 64 bits without a sign */
    MAX_DEPTH = 60   /* of values that are passed over */
};
#define NO_TIME INT64_MIN
#define US INT64_C(1000000)
#define EVERY_BYTE(n) (UINT64_C(0x0101010101010101) * (n))

static inline text skip_blanks(text at, text end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r')) at++;
    return at;
}

static inline bool is_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

/* Bytes of the character beyond ASCII that starts here; 0 when it is not UTF-8 (RFC 3629). */
static int utf8_size(text at, text end) {
    uint8_t first = *at, low = 0x80, high = 0xBF;
    int size;
    if (first >= 0xC2 && first <= 0xDF) {
        size = 2;
    } else if (first >= 0xE0 && first <= 0xEF) {
        size = 3;
        if (first == 0xE0) low = 0xA0;
        if (first == 0xED) high = 0x9F;
    } else if (first >= 0xF0 && first <= 0xF4) {
        size = 4;
        if (first == 0xF0) low = 0x90;
        if (first == 0xF4) high = 0x8F;
    } else {
        return 0;
    }
    if (end - at < size || at[1] < low || at[1] > high) return 0;
    for (int each = 2; each < size; each++)
        if ((at[each] & 0xC0) != 0x80) return 0;
    return size;
}

/* The four hex digits here as a number; -1 when they are none. */
static int32_t hex_value(text at, text end) {
    int32_t value = 0;
    if (end - at < 4) return -1;
    for (int each = 0; each < 4; each++) {
        uint8_t letter = at[each] | 0x20;
        if (is_digit(at[each]))
            value = value * 16 + at[each] - '0';
        else if (letter >= 'a' && letter <= 'f')
            value = value * 16 + letter - 'a' + 10;
        else
            return -1;
    }
    return value;
}

/* The escape at a backslash: its size as written, 0 when it is none, and its code point. */
static int escape_at(text at, text end, int32_t *code) {
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (end - at < 2) return 0;
    const char *letter = memchr(letters, at[1], sizeof letters - 1);
    if (letter) {
        *code = meant[letter - letters];
        return 2;
    }
    *code = at[1] == 'u' ? hex_value(at + 2, end) : -1;
    if (*code < 0) return 0;
    if (*code >= 0xD800 && *code < 0xDC00 && end - at >= 12 && at[6] == '\\' && at[7] == 'u') {
        int32_t low = hex_value(at + 8, end);
        if (low >= 0xDC00 && low < 0xE000) {
            *code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
            return 12;
        }
    }
    return 6;
}

static inline int encoded_size(int32_t code) {
    return 1 + (code >= 0x80) + (code >= 0x800) + (code >= 0x10000);
}

typedef struct {
    text quote;      /* the closing one; NULL when this is no string */
    int64_t size;    /* of the value in UTF-8 */
    bool is_escaped; /* whether it is written with escapes, */
    bool is_whole;   /* and without half a surrogate pair */
} string;

/* A string from where it is no longer plain; `start` is where its text began. */
static string scan_special(text at, text end, text start) {
    string found = {NULL, at - start, false, true};
    while (at < end && *at >= ' ') {
        int32_t code;
        int written = 1, size = 1;
        if (*at == '"') {
            found.quote = at;
            return found;
        }
        if (*at == '\\') {
            written = escape_at(at, end, &code);
            size = encoded_size(code);
            found.is_escaped = true;
            if (code >= 0xD800 && code < 0xE000) found.is_whole = false;
        } else if (*at >= 0x80) {
            written = size = utf8_size(at, end);
        }
        if (!written) break;
        at += written;
        found.size += size;
    }
    return found;
}

/* A string from behind its opening quote. Eight bytes at a time, as long as none of them is a quote,
   a backslash, a control or beyond ASCII: of the bits in `special`, the lowest is always right. */
static inline string scan_string(text at, text end) {
    text start = at;
    while (end - at >= 8) {
        uint64_t here;
        memcpy(&here, at, 8);
        uint64_t quotes = here ^ EVERY_BYTE('"'), backslashes = here ^ EVERY_BYTE('\\');
        uint64_t special = ((quotes - EVERY_BYTE(1)) & ~quotes) | (here - EVERY_BYTE(' ')) | here |
                           ((backslashes - EVERY_BYTE(1)) & ~backslashes);
        special &= EVERY_BYTE(0x80);
        if (special) {
            at += __builtin_ctzll(special) >> 3;
            break;
        }
        at += 8;
    }
    if (at < end && *at == '"') return (string){at, at - start, false, true};
    return scan_special(at, end, start);
}

/* Where digits end; the first `room` of them go behind `value`. */
static inline text scan_digits(text at, text end, uint64_t *value, int64_t room) {
    text stop = room > 0 ? at + room : at;
    for (; at < end && is_digit(*at); at++)
        if (at < stop) *value = *value * 10 + (uint64_t)(*at - '0');
    return at;
}

/* An integer from behind its sign: where it ends, NULL when it is none. */
static inline text scan_integer(text at, text end, uint64_t *value) {
    text start = at;
    *value = 0;
    at = scan_digits(at, end, value, MAX_DIGITS);
    return at == start || (at > start + 1 && *start == '0') ? NULL : at;
}

typedef struct {
    uint64_t mantissa;
    int64_t power; /* of ten */
    bool is_negative;
    bool is_exact; /* whether these are all that was written */
} number;

/* Where a number ends; NULL when it is none. */
static text scan_number(text at, text end, number *found) {
    found->is_negative = *at == '-';
    text start = at + found->is_negative;
    if (!(at = scan_integer(start, end, &found->mantissa))) return NULL;
    int64_t num_digits = at - start;
    found->power = 0;
    if (at < end && *at == '.') {
        start = at + 1;
        at = scan_digits(start, end, &found->mantissa, MAX_DIGITS - num_digits);
        if (at == start) return NULL;
        found->power = start - at;
        num_digits += at - start;
    }
    found->is_exact = num_digits <= MAX_DIGITS;
    if (at < end && (*at | 0x20) == 'e') {
        uint64_t exponent = 0;
        bool is_minus = ++at < end && *at == '-';
        if (at < end && (*at == '-' || *at == '+')) at++;
        start = at;
        at = scan_digits(start, end, &exponent, 4);
        if (at == start) return NULL;
        found->power += is_minus ? -(int64_t)exponent : (int64_t)exponent;
        found->is_exact = found->is_exact && at - start <= 4;
    }
    return at;
}

static inline text scan_literal(text at, text end, const char *word, int64_t size) {
    return end - at >= size && !memcmp(at, word, (size_t)size) ? at + size : NULL;
}

/* The two digits here; far below zero when they are none. */
static inline int64_t two_digits(text at) {
    return is_digit(at[0]) && is_digit(at[1]) ? (at[0] - '0') * 10 + at[1] - '0' : -10000;
}

/* YYYY-MM-DD in the ten bytes here as days since 1970. */
static inline int64_t scan_date(text at) {
    static const int16_t before_month[] = {0,   31,  59,  90,  120, 151, 181,
                                           212, 243, 273, 304, 334, 365};
    int64_t year = two_digits(at) * 100 + two_digits(at + 2);
    int64_t month = two_digits(at + 5), day = two_digits(at + 8);
    if (year < 1 || month < 1 || month > 12 || day < 1 || at[4] != '-' || at[7] != '-')
        return NO_TIME;
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (day > before_month[month] - before_month[month - 1] + (is_leap && month == 2))
        return NO_TIME;
    int64_t before = year - 1;
    int64_t days = before * 365 + before / 4 - before / 100 + before / 400 - 719162;
    return days + before_month[month - 1] + (is_leap && month > 2) + day - 1;
}

/* YYYY-MM-DDTHH:MM:SS[.ffffff](Z|+HH:MM) as microseconds since 1970. */
static int64_t scan_timestamp(text at, text end) {
    if (end - at < 20 || (at[10] != 'T' && at[10] != ' ')) return NO_TIME;
    int64_t days = scan_date(at);
    int64_t hours = two_digits(at + 11), minutes = two_digits(at + 14);
    int64_t seconds = two_digits(at + 17);
    uint64_t fraction = 0;
    if (days == NO_TIME || hours < 0 || hours > 23 || minutes < 0 || minutes > 59 || seconds < 0 ||
        seconds > 59 || at[13] != ':' || at[16] != ':')
        return NO_TIME;
    int64_t time = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * US;
    at += 19;
    if (*at == '.') {
        text start = at + 1;
        at = scan_digits(start, end, &fraction, 6);
        if (at == start || at - start > 6) return NO_TIME;
        for (int64_t digits = at - start; digits < 6; digits++) fraction *= 10;
        time += (int64_t)fraction;
    }
    if (end - at == 1 && *at == 'Z') return time;
    if (end - at != 6 || (*at != '+' && *at != '-') || at[3] != ':') return NO_TIME;
    hours = two_digits(at + 1), minutes = two_digits(at + 4);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return NO_TIME;
    int64_t offset = (hours * 60 + minutes) * 60 * US;
    return *at == '+' ? time - offset : time + offset;
}

/* From the quote of a name to its value; NULL when it is none. */
static text skip_name(text at, text end) {
    if (at >= end || *at != '"' || !(at = scan_string(at + 1, end).quote)) return NULL;
    at = skip_blanks(at + 1, end);
    return at < end && *at == ':' ? skip_blanks(at + 1, end) : NULL;
}

static text skip_scalar(text at, text end) {
    number ignored;
    text found;
    if (*at == '"') return (found = scan_string(at + 1, end).quote) ? found + 1 : NULL;
    if (*at == '-' || is_digit(*at)) return scan_number(at, end, &ignored);
    if ((found = scan_literal(at, end, "null", 4)) || (found = scan_literal(at, end, "true", 4)))
        return found;
    return scan_literal(at, end, "false", 5);
}

/* Where a value of any kind ends; NULL when it is not JSON or nests deep. */
static text skip_value(text at, text end) {
    uint64_t objects = 0; /* a bit per level: whether it is an object */
    int depth = 0;
    while (at && at < end) {
        uint8_t opener = *at;
        if (opener == '{' || opener == '[') {
            if (depth == MAX_DEPTH) return NULL;
            at = skip_blanks(at + 1, end);
            if (at >= end) return NULL;
            if (*at != opener + 2) { /* '}' or ']': it would be empty */
                depth++;
                objects = objects << 1 | (opener == '{');
                if (opener == '{') at = skip_name(at, end);
                continue;
            }
            at++;
        } else {
            at = skip_scalar(at, end);
        }
        for (; at && depth; depth--, objects >>= 1, at++) { /* behind a value inside another */
            at = skip_blanks(at, end);
            if (at >= end) return NULL;
            if (*at == ',') {
                at = skip_blanks(at + 1, end);
                if (objects & 1) at = skip_name(at, end);
                break;
            }
            if (*at != (objects & 1 ? '}' : ']')) return NULL;
        }
        if (!depth) return at;
    }
    return NULL;
}
