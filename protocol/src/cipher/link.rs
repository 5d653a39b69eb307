//! The secret between two devices that are being linked, and what they tell each other under it.
//!
//! Owns the code that one device shows and the other reads, the channel's name and keys that come from it, and the
//! three messages. Knows nothing of the server that carries them, nor of screens.
//!
//! ```text
//! channel := KDF(secret, "", "link-channel", "", 16)
//! key     := KDF(secret, "", "link-key", channel | part, 32)        part: 1 offer, 2 request, 3 answer
//! message := nonce 24 | XChaCha20-Poly1305(key, nonce, aad = channel | part, u16 length | CBOR | zeros, 1024 in all)
//! ```

use super::OpenError;
use super::aead::{self, NONCE_LENGTH, TAG_LENGTH};
use super::code::{self, BadCode, Kind};
use super::device::DeviceKey;
use super::master::AccountMasterKey;
use super::secret::{Secret, random};
use crate::account_log::{Payload, Pin, device_id};
use crate::bytes::Fixed;
use crate::codec::Face;
use crate::hash::Label;
use crate::id::{DeviceId, LinkChannel, UserId};
use crate::kdf::kdf;
use crate::message::{Private, wire};
use crate::session::SignatureBytes;
use crate::sign::{PublicKey, Signature};
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Serialize, Serializer};
use std::fmt;
use zeroize::{Zeroize as _, Zeroizing};

/// Every message of a link is this long, so that its length says nothing.
pub const LINK_MESSAGE_LENGTH: usize = NONCE_LENGTH + PADDED_LENGTH + TAG_LENGTH;
const PADDED_LENGTH: usize = 1024;

/// Of one hundred random bits, in thirteen bytes whose last four bits are zero.
#[derive(Debug)]
pub struct LinkSecret(Secret<13>);

/// Which of the three messages: each has its key, so none can stand in another's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPart {
    Offer,
    Request,
    Answer,
}

wire! {
    /// What the signed-in device tells first: whose account this is, and what the server must at least show of it.
    pub struct LinkOffer {
        pub server_name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tenant: Option<String>,
        pub uid: UserId,
        pub login_name: Private,
        pub log_head: LogHead,
    }

    /// What the new device answers: its key, its consent to this account, and what it is called.
    pub struct LinkHello {
        pub device_key: Fixed<32>,
        /// `SIGN(device, "device-pop", uid || device_key)`
        pub proof: SignatureBytes,
        pub label: Private,
    }

    /// What the signed-in device gives once its person has agreed.
    pub struct LinkGrant {
        pub server_name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tenant: Option<String>,
        pub login_name: Private,
        /// See [`LinkGrant::account_master_key`].
        #[cfg_attr(feature = "utoipa", schema(value_type = Fixed<32>))]
        pub amk: GrantedKey,
        pub amk_gen: u32,
        /// As text. Missing if the account goes without.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub secret_key: Option<Private>,
        /// The head of the log with the new device in it.
        pub log_head: LogHead,
    }

    /// A [`Pin`] as it travels.
    pub struct LogHead {
        pub index: u64,
        pub hash: Fixed<32>,
    }
}

/// The bytes of a key on their way to another device. Wiped when dropped, shows nothing.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct GrantedKey(Box<[u8; 32]>);

/// One of the three messages.
pub trait LinkMessage: Serialize + DeserializeOwned {
    const PART: LinkPart;
}

/// The message is longer than any honest one: a name in it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name is too long to be sent to the other device")]
pub struct TooLong;

impl LinkSecret {
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new(random::<13>());
        bytes[12] &= 0xf0;
        LinkSecret(Secret::from(bytes))
    }

    /// What one device shows: `L1-` and six groups of four.
    pub fn to_text(&self) -> Zeroizing<String> {
        code::write(Kind::LinkCode, self.0.as_bytes())
    }

    /// What the other device reads or is typed, as forgiving as the other codes.
    pub fn parse(text: &str) -> Result<Self, BadCode> {
        code::read(Kind::LinkCode, text).map(|bytes| LinkSecret(bytes.into()))
    }

    /// Where the two devices meet on the server, which can compute nothing from it.
    pub fn channel(&self) -> LinkChannel {
        LinkChannel(*kdf(self.0.as_bytes(), b"", Label::LINK_CHANNEL, b""))
    }

    pub fn seal<M: LinkMessage>(&self, message: &M) -> Result<Vec<u8>, TooLong> {
        self.seal_with_nonce(message, &random())
    }

    pub fn open<M: LinkMessage>(&self, sealed: &[u8]) -> Result<M, OpenError> {
        if sealed.len() != LINK_MESSAGE_LENGTH {
            return Err(OpenError);
        }
        let (nonce, sealed) = sealed.split_first_chunk().ok_or(OpenError)?;
        let plain = aead::open(&self.key(M::PART), nonce, &self.place(M::PART), sealed)?;
        let (length, rest) = plain.split_first_chunk().ok_or(OpenError)?;
        let (encoded, padding) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(OpenError)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(OpenError);
        }
        Face::Cbor.decode(encoded).map_err(|_| OpenError)
    }

    pub(super) fn seal_with_nonce<M: LinkMessage>(
        &self,
        message: &M,
        nonce: &[u8; NONCE_LENGTH],
    ) -> Result<Vec<u8>, TooLong> {
        let encoded = Zeroizing::new(Face::Cbor.encode(message));
        let mut plain = Zeroizing::new([0; PADDED_LENGTH]);
        plain.get_mut(2..2 + encoded.len()).ok_or(TooLong)?.copy_from_slice(&encoded);
        plain[..2].copy_from_slice(&u16::try_from(encoded.len()).map_err(|_| TooLong)?.to_be_bytes());
        let sealed = aead::seal(&self.key(M::PART), nonce, &self.place(M::PART), plain.as_slice());
        Ok([nonce.as_slice(), &sealed].concat())
    }

    fn key(&self, part: LinkPart) -> Zeroizing<[u8; 32]> {
        kdf(self.0.as_bytes(), b"", Label::LINK_KEY, &self.place(part))
    }

    /// `channel | part`, which enters the key and is bound to the message.
    fn place(&self, part: LinkPart) -> Vec<u8> {
        let part = match part {
            LinkPart::Offer => 1,
            LinkPart::Request => 2,
            LinkPart::Answer => 3,
        };
        [self.channel().as_bytes(), &[part]].concat()
    }

    #[cfg(test)]
    pub(super) fn from_bytes(bytes: &[u8; 13]) -> Self {
        LinkSecret(Secret::from_slice(bytes))
    }
}

impl LinkHello {
    pub fn new(device: &DeviceKey, user: &UserId, label: impl Into<Private>) -> Self {
        LinkHello {
            device_key: device.public_key().0.into(),
            proof: device.proof_of_possession(user).0.into(),
            label: label.into(),
        }
    }

    /// The id the new device will have.
    pub fn device_id(&self) -> DeviceId {
        device_id(&PublicKey(*self.device_key))
    }

    /// What the log must say to add this device, if the device itself agreed to be added to this person's account.
    pub fn device_add(&self, user: &UserId) -> Result<Payload, OpenError> {
        let (key, proof) = (PublicKey(*self.device_key), Signature(*self.proof));
        if !key.verify(Label::DEVICE_POP, &[user.as_bytes(), key.as_bytes()], &proof) {
            return Err(OpenError);
        }
        Ok(Payload::DeviceAdd { device: self.device_id(), key, proof })
    }
}

impl LinkGrant {
    pub fn account_master_key(&self) -> AccountMasterKey {
        AccountMasterKey::from_bytes(self.amk_gen, &self.amk.0)
    }
}

impl LinkMessage for LinkOffer {
    const PART: LinkPart = LinkPart::Offer;
}

impl LinkMessage for LinkHello {
    const PART: LinkPart = LinkPart::Request;
}

impl LinkMessage for LinkGrant {
    const PART: LinkPart = LinkPart::Answer;
}

impl From<Pin> for LogHead {
    fn from(pin: Pin) -> Self {
        LogHead { index: pin.index, hash: pin.hash.into() }
    }
}

impl From<&LogHead> for Pin {
    fn from(head: &LogHead) -> Self {
        Pin { index: head.index, hash: *head.hash }
    }
}

impl From<&AccountMasterKey> for GrantedKey {
    fn from(key: &AccountMasterKey) -> Self {
        let mut granted = GrantedKey(Box::new([0; 32]));
        granted.0.copy_from_slice(key.to_bytes().as_slice());
        granted
    }
}

impl Drop for GrantedKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for GrantedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for GrantedKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        crate::bytes::serialize(self.0.as_slice(), serializer)
    }
}

impl<'de> Deserialize<'de> for GrantedKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Zeroizing::new(crate::bytes::deserialize(deserializer)?);
        let bytes =
            <&[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| de::Error::invalid_length(bytes.len(), &"32 bytes"))?;
        Ok(GrantedKey(Box::new(*bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::SecretKey;

    fn offer() -> LinkOffer {
        LinkOffer {
            server_name: "sync.example.org".into(),
            tenant: None,
            uid: UserId([1; 32]),
            login_name: "ana@example.org".into(),
            log_head: Pin { index: 5, hash: [2; 32] }.into(),
        }
    }

    fn grant() -> LinkGrant {
        LinkGrant {
            server_name: "sync.example.org".into(),
            tenant: Some("acme".into()),
            login_name: "ana@example.org".into(),
            amk: (&AccountMasterKey::from_bytes(3, &[9; 32])).into(),
            amk_gen: 3,
            secret_key: Some(SecretKey::generate().to_text().as_str().into()),
            log_head: Pin { index: 6, hash: [3; 32] }.into(),
        }
    }

    #[test]
    fn two_devices_with_the_same_code_understand_each_other() {
        let shown = LinkSecret::generate();
        let typed = LinkSecret::parse(&shown.to_text().to_lowercase().replace('-', " ")).unwrap();
        assert_eq!(shown.channel(), typed.channel());

        let offer = offer();
        assert_eq!(typed.open::<LinkOffer>(&shown.seal(&offer).unwrap()).unwrap(), offer);

        let device = DeviceKey::generate();
        let hello = LinkHello::new(&device, &offer.uid, "phone");
        let received: LinkHello = shown.open(&typed.seal(&hello).unwrap()).unwrap();
        assert_eq!(received.device_add(&offer.uid).unwrap(), device.device_add(&offer.uid));
        assert_eq!(received.device_id(), device.id());

        let grant = grant();
        let received: LinkGrant = typed.open(&shown.seal(&grant).unwrap()).unwrap();
        assert_eq!(received, grant);
        assert_eq!(*received.account_master_key().to_bytes(), [9; 32]);
        assert_eq!(received.account_master_key().generation(), 3);
    }

    #[test]
    fn a_link_code_is_six_groups_of_four() {
        let text = LinkSecret::generate().to_text();
        let groups: Vec<&str> = text.split('-').collect();
        assert_eq!((groups[0], groups.len()), ("L1", 7));
        assert!(groups[1..].iter().all(|group| group.len() == 4));
    }

    #[test]
    fn another_code_opens_nothing() {
        let sealed = LinkSecret::generate().seal(&offer()).unwrap();
        assert_eq!(LinkSecret::generate().open::<LinkOffer>(&sealed), Err(OpenError));
    }

    #[test]
    fn no_message_stands_in_the_place_of_another() {
        let secret = LinkSecret::generate();
        let sealed = secret.seal(&offer()).unwrap();
        assert!(secret.open::<LinkHello>(&sealed).is_err());
        assert!(secret.open::<LinkGrant>(&sealed).is_err());
    }

    #[test]
    fn all_messages_are_of_one_length_and_bent_ones_do_not_open() {
        let secret = LinkSecret::generate();
        let hello = LinkHello::new(&DeviceKey::generate(), &UserId([1; 32]), "");
        let sealed = secret.seal(&hello).unwrap();
        assert_eq!(sealed.len(), LINK_MESSAGE_LENGTH);
        assert_eq!(secret.seal(&grant()).unwrap().len(), LINK_MESSAGE_LENGTH);
        const { assert!(LINK_MESSAGE_LENGTH <= crate::link::MAX_LINK_MESSAGE) };
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert_eq!(secret.open::<LinkHello>(&bent), Err(OpenError), "byte {at}");
        }
        for length in [0, 23, 24, sealed.len() - 1] {
            assert!(secret.open::<LinkHello>(&sealed[..length]).is_err());
        }
    }

    #[test]
    fn the_longest_names_still_fit() {
        let mut grant = grant();
        grant.login_name = "n".repeat(crate::name::MAX_LOGIN_NAME_LENGTH).into();
        grant.server_name = "h".repeat(260);
        grant.tenant = Some("t".repeat(64));
        assert!(LinkSecret::generate().seal(&grant).is_ok());
        grant.server_name = "h".repeat(2000);
        assert_eq!(LinkSecret::generate().seal(&grant), Err(TooLong));
    }

    #[test]
    fn a_device_is_not_added_where_it_did_not_agree_to() {
        let hello = LinkHello::new(&DeviceKey::generate(), &UserId([1; 32]), "phone");
        assert!(hello.device_add(&UserId([1; 32])).is_ok());
        assert_eq!(hello.device_add(&UserId([2; 32])), Err(OpenError));
    }
}
