/* Lines of JSON objects into columns, in one pass over a block's bytes.

   It reads what JSON libraries usually write, and says of every other line that it is not sure: such
   a line is read by decode.py, which decides. What is accepted here is JSON by RFC 8259 with values
   of the contract's types, and nothing else. Nothing at `end` or behind it is read; nothing is
   allocated. tests/contracts/test_paths_agree.py compares it with strict reading on hostile lines. */

#include "json_scan.h"

enum { STRING, INTEGER, NUMBER, BOOLEAN, DATE, TIMESTAMP }; /* kinds of fields */
enum { READ, BLANK, UNSURE };                               /* what became of a line */
enum { ABSENT, PRESENT, AS_TEXT }; /* a value; AS_TEXT is a number that needs an exact reader */

#define EXACT_MANTISSA (UINT64_C(1) << 53) /* whole numbers below it are doubles, */
#define EXACT_POWER 22                     /* and so are powers of ten up to this one */
#define LONG_NUMBER 40                     /* longer ones, and larger powers, are not sure: */
#define LARGE_POWER 250                    /* a double may not hold them */

typedef struct {
    const char *const *names; /* in quotes, as JSON writes them */
    const int64_t *sizes;     /* of the names, with their quotes */
    const uint8_t *kinds;
    int64_t count;
    bool is_open;   /* whether members with other names are passed over */
    int64_t *order; /* the field expected at each place of a line: where the line before had it */
    int64_t *seen;  /* the row that last had each field */
} fields;

typedef struct {
    int64_t num_rows; /* that there is room for in each column */
    int64_t *values;  /* of field f and row r at f * num_rows + r: where a text begins in the block */
    int32_t *sizes;   /* (one written with escapes: ~ of that), else the value; and a text's bytes */
    uint8_t *states;
} columns;

/* An integer of at most 64 bits: where it ends, NULL when it is none. */
static inline text read_integer(text at, text end, int64_t *value) {
    bool is_negative = *at == '-';
    text start = at + is_negative;
    uint64_t magnitude;
    at = scan_integer(start, end, &magnitude);
    if (!at || at - start > MAX_DIGITS || magnitude > (uint64_t)INT64_MAX) return NULL;
    if (at < end && (*at == '.' || (*at | 0x20) == 'e')) return NULL;
    *value = is_negative ? -(int64_t)magnitude : (int64_t)magnitude;
    return at;
}

/* A double where one operation gives it exactly, else where its text is. */
static text read_number(text at, text end, text block, columns *to, int64_t cell) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    number found;
    text start = at;
    if (!(at = scan_number(at, end, &found))) return NULL;
    int64_t power = found.power;
    if (found.is_exact && (found.mantissa || !found.is_negative) && found.mantissa < EXACT_MANTISSA &&
        power <= EXACT_POWER && power >= -EXACT_POWER) {
        double value = (double)found.mantissa;
        value = power >= 0 ? value * powers[power] : value / powers[-power];
        if (found.is_negative) value = -value;
        memcpy(to->values + cell, &value, sizeof value);
        return at;
    }
    if (at - start > LONG_NUMBER || power > LARGE_POWER || power < -LARGE_POWER) return NULL;
    to->values[cell] = start - block;
    to->sizes[cell] = (int32_t)(at - start);
    to->states[cell] = AS_TEXT;
    return at;
}

/* A text, date or time: behind its closing quote; NULL when it is not surely one. */
static inline text read_text(text at, text end, text block, int kind, columns *to, int64_t cell) {
    int64_t *value = to->values + cell;
    text start = at + 1;
    if (*at != '"') return NULL;
    string found = scan_string(start, end);
    if (!found.quote || !found.is_whole) return NULL;
    if (kind == STRING) {
        *value = found.is_escaped ? ~(start - block) : start - block;
        to->sizes[cell] = (int32_t)found.size;
        return found.quote + 1;
    }
    if (found.is_escaped) return NULL;
    if (kind == TIMESTAMP)
        *value = scan_timestamp(start, found.quote);
    else
        *value = found.size == 10 ? scan_date(start) : NO_TIME;
    return *value == NO_TIME ? NULL : found.quote + 1;
}

/* Store the value here as `kind`: where it ends, NULL when it is not surely one. */
static inline text read_value(text at, text end, text block, int kind, columns *to, int64_t cell) {
    if (*at == 'n') return scan_literal(at, end, "null", 4);
    to->states[cell] = PRESENT;
    switch (kind) {
    case INTEGER:
        return read_integer(at, end, to->values + cell);
    case NUMBER:
        return *at == '-' || is_digit(*at) ? read_number(at, end, block, to, cell) : NULL;
    case BOOLEAN:
        to->values[cell] = *at == 't';
        return *at == 't' ? scan_literal(at, end, "true", 4) : scan_literal(at, end, "false", 5);
    default:
        return read_text(at, end, block, kind, to, cell);
    }
}

static inline bool is_name(text at, text end, const fields *of, int64_t field) {
    int64_t size = of->sizes[field];
    return end - at >= size && !memcmp(at, of->names[field], (size_t)size);
}

/* The field whose name, in quotes, is here at this place of the line; `count` when there is none. */
static inline int64_t field_at(text at, text end, fields *of, int64_t place) {
    if (place < of->count && is_name(at, end, of, of->order[place])) return of->order[place];
    for (int64_t field = 0; field < of->count; field++) {
        if (is_name(at, end, of, field)) {
            if (place < of->count) of->order[place] = field;
            return field;
        }
    }
    return of->count;
}

/* One object into a row: where it ends, NULL when it is not surely a record. */
static text read_record(text at, text end, text block, fields *of, columns *to, int64_t row) {
    at = skip_blanks(at, end);
    if (at >= end || *at != '{') return NULL;
    at = skip_blanks(at + 1, end);
    if (at < end && *at == '}') return at + 1;
    for (int64_t place = 0; at < end && *at == '"'; place++) {
        int64_t field = field_at(at, end, of, place);
        if (field < of->count) {
            at = skip_blanks(at + of->sizes[field], end);
            if (at >= end || *at != ':' || of->seen[field] == row) return NULL;
            of->seen[field] = row;
            at = skip_blanks(at + 1, end);
            if (at >= end) return NULL;
            at = read_value(at, end, block, of->kinds[field], to, field * to->num_rows + row);
        } else {
            /* A name written with escapes may be a field's after all. */
            if (!of->is_open || scan_string(at + 1, end).is_escaped) return NULL;
            at = skip_name(at, end);
            at = at ? skip_value(at, end) : NULL;
        }
        if (!at) return NULL;
        at = skip_blanks(at, end);
        if (at >= end) return NULL;
        if (*at == '}') return at + 1;
        if (*at != ',') return NULL;
        at = skip_blanks(at + 1, end);
    }
    return NULL;
}

/* All lines of a block: where each stops, what became of it, and the lines of the rows that were
   read, whose number is returned. `states` comes in as ABSENT, `order` as 0, 1, ..., `seen` as -1. */
int64_t scale_read_lines(text block, int64_t num_bytes, fields *of, columns *to, int64_t num_lines,
                         int64_t max_line_bytes, int64_t *stops, uint8_t *fates, int64_t *rows) {
    text at = block, end = block + num_bytes;
    int64_t row = 0;
    for (int64_t line = 0; line < num_lines; line++) {
        text start = at, stop;
        if ((at = read_record(at, end, block, of, to, row))) at = skip_blanks(at, end);
        if (at && (at == end || *at == '\n') && at - start <= max_line_bytes) {
            fates[line] = READ;
            rows[row++] = line;
        } else {
            stop = memchr(start, '\n', (size_t)(end - start));
            at = stop ? stop : end;
            fates[line] = skip_blanks(start, at) == at ? BLANK : UNSURE;
            for (int64_t field = 0; field < of->count; field++) {
                to->states[field * to->num_rows + row] = ABSENT;
                of->seen[field] = -1;
            }
        }
        stops[line] = at - block;
        if (at < end) at++;
    }
    return row;
}

/* The texts of a column, one behind the other; `offsets` has one more than rows. */
void scale_gather(text block, int64_t num_bytes, int64_t num_rows, const int64_t *values,
                  const int32_t *sizes, const uint8_t *states, int32_t *offsets, uint8_t *out) {
    text end = block + num_bytes;
    int32_t to = 0;
    for (int64_t row = 0; row < num_rows; row++) {
        offsets[row] = to;
        if (states[row] == ABSENT) continue;
        if (values[row] >= 0) {
            memcpy(out + to, block + values[row], (size_t)sizes[row]);
            to += sizes[row];
            continue;
        }
        int32_t stop = to + sizes[row], code;
        for (text at = block + ~values[row]; to < stop;) {
            if (*at != '\\') {
                out[to++] = *at++;
                continue;
            }
            at += escape_at(at, end, &code);
            int size = encoded_size(code);
            int marks = size == 1 ? 0 : 0xF00 >> size; /* 110, 1110 or 11110 in front */
            out[to] = (uint8_t)(marks | code >> (6 * (size - 1)));
            for (int each = 1; each < size; each++)
                out[to + each] = (uint8_t)(0x80 | (code >> (6 * (size - 1 - each)) & 0x3F));
            to += size;
        }
    }
    offsets[num_rows] = to;
}
