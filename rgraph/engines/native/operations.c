/* What the expressions of `engines.expressions` are written with, in a form that a compiler can turn
   into vector instructions: no branches, no calls. NaN and infinities go through as in the C
   library. */

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

/* 2^k r, r = e^(x - k log 2) by its Taylor series; log 2 in two parts, the first with few bits. */
static inline float exp_(float x)
{
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    const float k = rintf(x * 1.44269504f);
    const float t = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    float r = 1.0f / 5040;
    r = r * t + 1.0f / 720;
    r = r * t + 1.0f / 120;
    r = r * t + 1.0f / 24;
    r = r * t + 1.0f / 6;
    r = r * t + 0.5f;
    r = r * t + 1.0f;
    r = r * t + 1.0f;
    const int32_t whole = (int32_t)(x != x ? 0.0f : k), half = whole / 2; /* 2^k may not be normal */
    return r * of_bits((half + 127) << 23) * of_bits((whole - half + 127) << 23);
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

/* A ratio of polynomials, that of Eigen (ptanh_float in its GenericPacketMathFunctions.h). */
static inline float tanh_(float x)
{
    float t = x > 7.90531110763549805f ? 7.90531110763549805f : x;
    t = t < -7.90531110763549805f ? -7.90531110763549805f : t;
    const float z = t * t;
    float p = -2.76076847742355e-16f;
    p = p * z + 2.00018790482477e-13f;
    p = p * z - 8.60467152213735e-11f;
    p = p * z + 5.12229709037114e-08f;
    p = p * z + 1.48572235717979e-05f;
    p = p * z + 6.37261928875436e-04f;
    p = p * z + 4.89352455891786e-03f;
    float q = 1.19825839466702e-06f;
    q = q * z + 1.18534705686654e-04f;
    q = q * z + 2.26843463243900e-03f;
    q = q * z + 4.89352518554385e-03f;
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
