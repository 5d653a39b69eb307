//! Linking: a signed-in device brings in a new one.
//!
//! Owns the words the two devices exchange through the server, which carries them sealed, and what each side checks.
//! The signed-in side is `initiator`, the new one `newcomer`; what is shown and scanned is `invitation`.

mod initiator;
mod invitation;
mod newcomer;

pub use initiator::{LinkInitiator, LinkRequester};
pub use invitation::LinkInvitation;
pub use newcomer::NewDeviceLink;

use selkie_protocol::id::DeviceId;
use std::time::Duration;

/// How often each side looks whether the other has answered.
const LOOK_EVERY: Duration = Duration::from_millis(800);

/// The time until a moment; none once it is there. However long a server asks to wait, nobody waits past the end.
fn left_until(end_ms: u64, now_ms: u64) -> Option<Duration> {
    end_ms.checked_sub(now_ms).filter(|left| *left > 0).map(Duration::from_millis)
}

/// Four groups of four that both screens show: the same on both means that it is this device and no other.
fn fingerprint(device: &DeviceId) -> String {
    let hex: String = device.as_bytes()[..8].iter().map(|byte| format!("{byte:02X}")).collect();
    let groups: Vec<&str> = (0..4).map(|group| &hex[group * 4..group * 4 + 4]).collect();
    groups.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_past_the_end() {
        assert_eq!(left_until(2_000, 500), Some(Duration::from_millis(1_500)));
        assert_eq!([left_until(2_000, 2_000), left_until(2_000, 3_000)], [None, None]);
    }

    #[test]
    fn a_fingerprint_can_be_read_aloud() {
        assert_eq!(fingerprint(&DeviceId([0xa7; 16])), "A7A7 A7A7 A7A7 A7A7");
    }
}
