//! Fast writing of numbers, times and identifiers into a text buffer.

use super::random::Random;

const HEX: &[u8; 16] = b"0123456789abcdef";
const KEY: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn digit(alphabet: &[u8], value: u64) -> char {
    usize::try_from(value).ok().and_then(|index| alphabet.get(index)).map_or('0', |byte| char::from(*byte))
}

/// Writes a decimal number.
pub fn decimal(out: &mut String, value: u64) {
    if value >= 10 {
        decimal(out, value / 10);
    }
    out.push(digit(HEX, value % 10));
}

/// Writes a decimal number with leading zeros.
pub fn padded(out: &mut String, value: u64, width: u32) {
    if width > 1 {
        padded(out, value / 10, width - 1);
    }
    out.push(digit(HEX, value % 10));
}

/// Writes the lowest `digits` hexadecimal digits of a number.
pub fn hex(out: &mut String, value: u64, digits: u32) {
    for position in (0..digits).rev() {
        out.push(digit(HEX, (value >> (4 * position.min(15))) & 15));
    }
}

/// Writes `length` of the letters and digits that AWS makes ids of, derived from a number.
pub fn key(out: &mut String, value: u64, length: u32) {
    let mut state = Random::new(value, 0x6b65_7900);
    let mut bits = 0;
    for position in 0..length {
        if position % 12 == 0 {
            bits = state.next();
        }
        out.push(digit(KEY, bits & 31));
        bits >>= 5;
    }
}

/// Writes a version 4 UUID.
pub fn uuid(out: &mut String, random: &mut Random) {
    let (high, low) = (random.next(), random.next());
    hex(out, high >> 32, 8);
    out.push('-');
    hex(out, high >> 16, 4);
    out.push_str("-4");
    hex(out, high, 3);
    out.push('-');
    hex(out, 8 | ((low >> 60) & 3), 1);
    hex(out, low >> 48, 3);
    out.push('-');
    hex(out, low, 12);
}

/// A moment's parts in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// Year, from 1970.
    pub year: u64,
    /// Month, 1 to 12.
    pub month: u64,
    /// Day, 1 to 31.
    pub day: u64,
    /// Hour, 0 to 23.
    pub hour: u64,
    /// Minute, 0 to 59.
    pub minute: u64,
    /// Second, 0 to 59.
    pub second: u64,
}

impl Civil {
    /// Splits seconds since the Unix epoch.
    ///
    /// Source: civil from days, Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    pub fn of(seconds: u64) -> Self {
        let days = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted + 2) / 5 + 1,
            hour: seconds / 3_600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }
}

/// Writes `2026-01-05T08:30:00Z`.
pub fn time(out: &mut String, seconds: u64) {
    let civil = Civil::of(seconds);
    padded(out, civil.year, 4);
    for (mark, part) in [('-', civil.month), ('-', civil.day), ('T', civil.hour), (':', civil.minute), (':', civil.second)] {
        out.push(mark);
        padded(out, part, 2);
    }
    out.push('Z');
}

/// The text that `write` makes.
pub fn made(write: impl FnOnce(&mut String)) -> String {
    let mut out = String::new();
    write(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_written_as_expected() {
        assert_eq!(made(|out| decimal(out, 0)), "0");
        assert_eq!(made(|out| decimal(out, u64::MAX)), u64::MAX.to_string());
        assert_eq!(made(|out| padded(out, 42, 5)), "00042");
        assert_eq!(made(|out| hex(out, 0xabc1_2345, 4)), "2345");
        for seconds in [0, 951_782_399, 951_782_400, 1_767_571_200, 4_107_542_399] {
            let expected = chrono::DateTime::from_timestamp(i64::try_from(seconds).unwrap(), 0).unwrap();
            assert_eq!(made(|out| time(out, seconds)), expected.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        }
    }

    #[test]
    fn identifiers_have_their_form() {
        let mut random = Random::new(1, 1);
        let id = made(|out| uuid(out, &mut random));
        let parsed = uuid::Uuid::parse_str(&id).unwrap();
        assert_eq!(parsed.get_version_num(), 4);
        assert_eq!(parsed.to_string(), id);
        let name = made(|out| key(out, 99, 16));
        assert!(name.len() == 16 && name.bytes().all(|byte| KEY.contains(&byte)), "{name}");
    }
}
