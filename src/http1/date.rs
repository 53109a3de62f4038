//! The one form in which HTTP dates are written (RFC 9110 section 5.6.7, IMF-fixdate).

use std::time::SystemTime;

use time::OffsetDateTime;
use time::macros::format_description;

/// `now` as the value of `Date`.
pub fn http_date(now: SystemTime) -> String {
    let form =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    // Formatting into a String fails for no date of this form.
    OffsetDateTime::from(now).format(form).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(
            http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
    }
}
