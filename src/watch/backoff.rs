//! How long to wait before something that failed is tried again.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// The pause after so many failures in a row: twice as long each time, from a second to five minutes. `random`, from 0 to
/// 1, takes away up to half of it, so that nodes that were lost together do not come back all at once.
#[must_use]
pub fn backoff(failures: u32, random: f64) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(LONGEST).mul_f64(1.0 - 0.5 * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_five_minutes_and_never_beyond() {
        for (failures, longest) in [(0, 1), (1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (u32::MAX, 300)] {
            let longest = Duration::from_secs(longest);
            assert_eq!(backoff(failures, 0.0), longest, "{failures}");
            assert_eq!(backoff(failures, 1.0), longest / 2, "{failures}");
        }
    }
}
