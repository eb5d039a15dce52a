//! Times, shares and rates as people write them: `50ms`, `2%`, `10mbit`.

/// A number with up to nine digits behind its point, times a unit, without rounding below one.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 9 || !is_digits(whole) || !is_digits(part) {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    if part.is_empty() {
        return Some(whole);
    }
    let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let part = part.parse::<u128>().ok()? * u128::from(unit) / scale;
    whole.checked_add(u64::try_from(part).ok()?)
}

/// The number before one of these units; a unit that is part of another stands behind it.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let found = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (number, unit) = found?;
    scaled(number.trim_end(), unit)
}

/// A time in microseconds.
pub(crate) fn micros(text: &str) -> Option<u64> {
    with_unit(text, &[("us", 1), ("ms", 1_000), ("min", 60_000_000), ("s", 1_000_000)])
}

/// A share in parts per million.
pub(crate) fn ppm(text: &str) -> Option<u64> {
    with_unit(text, &[("%", 10_000), ("ppm", 1)])
}

/// A rate in bits a second.
pub(crate) fn bits_per_second(text: &str) -> Option<u64> {
    with_unit(text, &[("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_read_as_people_write_them() {
        assert_eq!(micros("50ms"), Some(50_000));
        assert_eq!(micros("1.5 s"), Some(1_500_000));
        assert_eq!(micros("2min"), Some(120_000_000));
        assert_eq!(ppm("2%"), Some(20_000));
        assert_eq!(ppm("0.01%"), Some(100));
        assert_eq!(bits_per_second("10Mbit"), Some(10_000_000));
        assert_eq!(bits_per_second("512kbit"), Some(512_000));
    }

    #[test]
    fn what_has_no_unit_or_is_no_number_is_refused() {
        for text in ["", "50", "ms", "-1ms", "1e3ms", "1.2.3s", "99999999999999999999s"] {
            assert_eq!(micros(text), None, "{text}");
        }
        assert_eq!(ppm("2"), None);
        assert_eq!(bits_per_second("10mb"), None);
    }
}
