//! The exact sum of floats by integers of any size: slow, and nothing like the engine's way.

use num_bigint::{BigInt, BigUint, Sign};

/// The exact sum, rounded once, ties to even. NaN and infinities as in IEEE 754.
pub(crate) fn sum(values: &[f64]) -> f64 {
    if values.iter().any(|v| !v.is_finite()) {
        // No finite value changes the answer, and overflow must not spoil it.
        return values.iter().filter(|v| !v.is_finite()).sum();
    }
    let total: BigInt = values.iter().map(|v| units(*v)).sum();
    let rounded = round(total.magnitude());
    if total.sign() == Sign::Minus {
        -rounded
    } else {
        rounded
    }
}

/// A float as a multiple of 2^-1074.
fn units(value: f64) -> BigInt {
    let bits = value.to_bits();
    let exponent = (bits >> 52) & 0x7ff;
    let fraction = bits & ((1 << 52) - 1);
    let magnitude = match exponent {
        0 => BigInt::from(fraction),
        e => BigInt::from(fraction | 1 << 52) << (e - 1),
    };
    if value.is_sign_negative() {
        -magnitude
    } else {
        magnitude
    }
}

fn round(units: &BigUint) -> f64 {
    let small = |value: &BigUint| value.iter_u64_digits().next().unwrap_or(0);
    let Some(shift) = units.bits().checked_sub(53) else {
        // Fewer than 53 bits: the number of units is the bit pattern.
        return f64::from_bits(small(units));
    };
    let mut mantissa = units >> shift;
    let rest = units - (&mantissa << shift);
    let twice = rest << 1u8;
    let unit = BigUint::from(1u8) << shift;
    if twice > unit || twice == unit && mantissa.bit(0) {
        mantissa += 1u8;
    }
    // A carry out of the mantissa goes on into the exponent, and at the end into infinity.
    let bits = ((shift + 1) << 52) + (small(&mantissa) - (1 << 52));
    f64::from_bits(bits.min(f64::INFINITY.to_bits()))
}

#[test]
fn known_sums() {
    assert_eq!(sum(&[0.1; 10]), 1.0);
    assert_eq!(sum(&[1e308, 1e308, -1e308]), 1e308);
    assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
    assert_eq!(sum(&[5e-324, 5e-324]), 1e-323);
    assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
    assert_eq!(sum(&[-0.5, -0.25]), -0.75);
    assert_eq!(
        sum(&[f64::MAX, f64::MAX, f64::NEG_INFINITY]),
        f64::NEG_INFINITY
    );
    assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
}
