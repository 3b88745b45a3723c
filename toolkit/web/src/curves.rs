//! The groups of key exchange by name: those of rustls' provider, and P-521, which Go has and the provider has not.
//!
//! P-521 is offered to those alone who name it in `curve_preferences`: it is slower than the others and no safer in
//! practice, but a file that names nothing else has to start.

use p521::{PublicKey, Sec1Point, ecdh::EphemeralSecret, elliptic_curve::Generate};
use rustls::{
    Error, NamedGroup, PeerMisbehaved,
    crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup},
};

/// P-521, for clients of servers that speak nothing else.
pub fn p521() -> &'static dyn SupportedKxGroup {
    &P521
}

/// The group, if it is offered.
pub(crate) fn group(name: NamedGroup) -> Option<&'static dyn SupportedKxGroup> {
    let mut offered = rustls::crypto::ring::ALL_KX_GROUPS.iter().copied().chain([p521()]);
    offered.find(|group| group.name() == name)
}

/// Ephemeral Diffie-Hellman on NIST's P-521 (RFC 8446, 4.2.8.2).
#[derive(Debug)]
struct P521;

impl SupportedKxGroup for P521 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = EphemeralSecret::try_generate().map_err(|_| GetRandomFailed)?;
        let public = Sec1Point::from(secret.public_key());
        Ok(Box::new(Exchange { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

struct Exchange {
    secret: EphemeralSecret,
    public: Sec1Point,
}

/// The first byte of a point that is not compressed, the only form TLS knows.
const UNCOMPRESSED: u8 = 4;

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let refused = || Error::from(PeerMisbehaved::InvalidKeyShare);
        if peer.first() != Some(&UNCOMPRESSED) {
            return Err(refused());
        }
        // Points off the curve, or at infinity, are no public keys.
        let peer = PublicKey::from_sec1_bytes(peer).map_err(|_| refused())?;
        Ok(SharedSecret::from(&self.secret.diffie_hellman(&peer).raw_secret_bytes()[..]))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_find_the_same_secret_and_bad_points_are_refused() {
        let start = || group(NamedGroup::secp521r1).expect("offered").start().expect("random numbers");
        let (one, two) = (start(), start());
        let (of_one, of_two) = (one.pub_key().to_vec(), two.pub_key().to_vec());
        assert_eq!((of_one.len(), of_one[0]), (133, UNCOMPRESSED));
        let (one, two) = (one.complete(&of_two).expect("a secret"), two.complete(&of_one).expect("a secret"));
        assert_eq!(one.secret_bytes(), two.secret_bytes());
        assert_eq!(one.secret_bytes().len(), 66);
        let mut off = of_one.clone();
        off[132] ^= 1;
        let compressed = [&[2 + (of_one[132] & 1)], &of_one[1..67]].concat();
        for bad in [&off[..], &compressed, &of_one[..132], &[], &[0], &[4; 133]] {
            assert!(start().complete(bad).is_err(), "{bad:?}");
        }
    }
}
