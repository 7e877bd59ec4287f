//! DNS messages.

use std::net::IpAddr;

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const MX: u16 = 15;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const HTTPS: u16 = 65;
pub const NOERROR: u16 = 0;
pub const SERVFAIL: u16 = 2;
pub const NXDOMAIN: u16 = 3;
pub const REFUSED: u16 = 5;
pub const QR: u16 = 0x8000;
pub const AUTHORITATIVE: u16 = 0x0400;

const OPT: u16 = 41;
const CLIENT_SUBNET: u16 = 8;
const DNSSEC_OK: u16 = 0x8000;

/// A message with one question.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub id: u16,
    pub flags: u16,
    pub name: String,
    pub qtype: u16,
    /// Number of answers, each with an IPv4 address.
    pub answers: u16,
    pub edns: Option<Edns>,
}

/// EDNS fields of a message.
#[derive(Clone, Debug, Default)]
pub struct Edns {
    pub udp_size: u16,
    pub rcode_high: u8,
    pub dnssec_ok: bool,
    pub client_subnet: Option<(IpAddr, u8)>,
}

impl Message {
    pub fn query(id: u16, name: &str, qtype: u16) -> Self {
        Self { id, flags: 0x0100, name: name.to_owned(), qtype, ..Self::default() }
    }

    /// Returns the reply to this query.
    pub fn reply(&self, rcode: u16, answers: u16) -> Self {
        let flags = QR | self.flags | 0x0080 | rcode & 0xf;
        Self { flags, answers, edns: None, ..self.clone() }
    }

    pub fn octets(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let extra = u16::from(self.edns.is_some());
        for number in [self.id, self.flags, 1, self.answers, 0, extra] {
            bytes.extend(number.to_be_bytes());
        }
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend(self.qtype.to_be_bytes());
        bytes.extend([0, 1]);
        for answer in 0..self.answers {
            let [high, low] = answer.to_be_bytes();
            bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 192, 0, high, low]);
        }
        if let Some(edns) = &self.edns {
            edns.write(&mut bytes);
        }
        bytes
    }

    /// Returns the message as in a TCP stream, after its length.
    pub fn framed(&self) -> Vec<u8> {
        let message = self.octets();
        [&(message.len() as u16).to_be_bytes(), message.as_slice()].concat()
    }
}

impl Edns {
    fn write(&self, bytes: &mut Vec<u8>) {
        let mut options = Vec::new();
        if let Some((address, prefix)) = self.client_subnet {
            let (family, address) = match address {
                IpAddr::V4(address) => (1u16, address.octets().to_vec()),
                IpAddr::V6(address) => (2, address.octets().to_vec()),
            };
            let used = &address[..usize::from(prefix).div_ceil(8)];
            options.extend(CLIENT_SUBNET.to_be_bytes());
            options.extend((4 + used.len() as u16).to_be_bytes());
            options.extend(family.to_be_bytes());
            options.extend([prefix, 0]);
            options.extend(used);
        }
        bytes.push(0);
        bytes.extend(OPT.to_be_bytes());
        bytes.extend(self.udp_size.to_be_bytes());
        bytes.extend([self.rcode_high, 0]);
        bytes.extend(if self.dnssec_ok { DNSSEC_OK } else { 0 }.to_be_bytes());
        bytes.extend((options.len() as u16).to_be_bytes());
        bytes.extend(options);
    }
}
