/* What the expressions of the operations are written with, in a form that a compiler can turn
   into vector instructions: no branches, no calls. NaN and infinities go through as in the C
   library. */

#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define T(x) ((float)(x))

static inline float of_bits(int32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline int32_t bits_of(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* r of e^x = 2^k r, for |x| < 2^20: r = e^t = 1 + t + t^2 q(t) with t = x - k log 2, where q is a
   least maximum of the relative error; log 2 in two parts, the first with few bits. */
static inline float reduced(float x, int32_t *k)
{
    const float one_half_of_2_24 = 12582912.0f; /* what is added to it is rounded to whole numbers */
    const float n = x * 1.44269504f + one_half_of_2_24;
    *k = bits_of(n) - bits_of(one_half_of_2_24);
    const float whole = n - one_half_of_2_24;
    const float t = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    float r = 0.001381454f;
    r = r * t + 0.008368745f;
    r = r * t + 0.04166839f;
    r = r * t + 0.16666521f;
    r = r * t + 0.49999994f;
    r = r * t + 1.0f;
    return r * t + 1.0f;
}

static inline float power_of_2(int32_t k) { return of_bits((int32_t)((uint32_t)(k + 127) << 23)); }

static inline float exp_(float x)
{
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    int32_t k;
    const float r = reduced(x, &k);
    const int32_t half = k >> 1; /* 2^k may not be normal */
    return r * power_of_2(half) * power_of_2(k - half);
}

/* Of a negative x, e^-x may be an infinity: then the result is no normal number any more, but 0. */
static inline float sigmoid_(float x)
{
    x = x > 87.0f ? 87.0f : x;
    x = x < -89.0f ? -89.0f : x;
    int32_t k;
    const float r = reduced(-x, &k);
    return 1.0f / (1.0f + r * power_of_2(k));
}

/* x = m 2^e with m from sqrt(1/2) to sqrt(2); log m = 2 atanh((m - 1) / (m + 1)) by its series. */
static inline float log_(float x)
{
    const int small = x < 1.17549435e-38f;
    const float scaled = small ? x * 8388608.0f : x;
    const int32_t bits = bits_of(scaled) - 0x3f3504f3;
    const float e = (float)((bits >> 23) - (small ? 23 : 0));
    const float m = of_bits((bits & 0x7fffff) + 0x3f3504f3);
    const float s = (m - 1.0f) / (m + 1.0f), z = s * s;
    float r = 2.0f / 9;
    r = r * z + 2.0f / 7;
    r = r * z + 2.0f / 5;
    r = r * z + 2.0f / 3;
    r = r * z * s + 2.0f * s;
    r = e * 0.693359375f + (r - e * 2.12194440e-4f);
    r = x == 0.0f ? -INFINITY : r;
    r = x <= 3.40282347e38f ? r : x;
    return x < 0.0f ? NAN : r;
}

/* A ratio of polynomials, that of Eigen (ptanh_float in its GenericPacketMathFunctions.h), both over
   the same number: so the smallest x don't fall below what a float can hold. */
static inline float tanh_(float x)
{
    float t = x > 7.90531110763549805f ? 7.90531110763549805f : x;
    t = t < -7.90531110763549805f ? -7.90531110763549805f : t;
    const float z = t * t;
    float p = -5.64167624e-14f;
    p = p * z + 4.08741721e-11f;
    p = p * z - 1.75837892e-08f;
    p = p * z + 1.04674992e-05f;
    p = p * z + 0.00303609832f;
    p = p * z + 0.130225534f;
    p = p * z + 0.999999872f;
    float q = 0.000244866093f;
    q = q * z + 0.024222764f;
    q = q * z + 0.463558385f;
    q = q * z + 1.0f;
    return t * p / q;
}

static inline float log1p_(float x) /* Kahan's: what is lost in 1 + x is made good by the ratio */
{
    const float u = 1.0f + x;
    const float r = log_(u) * (x / (u - 1.0f));
    return u == 1.0f || x > 3.40282347e38f ? x : r;
}

static inline float expm1_(float x) /* tanh(x / 2) = (e^x - 1) / (e^x + 1) */
{
    return x > 89.0f ? INFINITY : tanh_(0.5f * x) * (exp_(x) + 1.0f);
}

#define exp exp_
#define log log_
#define tanh tanh_
#define log1p log1p_
#define expm1 expm1_
#define fabs fabsf
#define sqrt sqrtf
#define floor floorf
#define ceil ceilf
