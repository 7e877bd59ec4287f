//! What is rare in DNS messages, read through `hickory-proto`.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message};
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::scan::HEADER;

/// A client subnet (RFC 7871): the address with all bits behind the prefix cleared, and the
/// prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientSubnet {
    /// The network.
    pub address: IpAddr,
    /// Source prefix length in bits.
    pub prefix: u8,
}

/// Reads the client subnet of an OPT record as on the wire.
pub fn client_subnet(opt_record: &[u8]) -> Option<ClientSubnet> {
    let record = Record::read(&mut BinDecoder::new(opt_record)).ok()?;
    let edns = Edns::from(&record);
    let EdnsOption::Subnet(subnet) = edns.option(EdnsCode::Subnet)? else {
        return None;
    };
    let prefix = subnet.source_prefix();
    let address = match subnet.addr() {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.checked_sub(u32::from(prefix))?).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.checked_sub(u32::from(prefix))?).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    };
    Some(ClientSubnet { address, prefix })
}

/// The types of all questions of a message that has several; empty where it can't be read.
pub fn question_types(message: &[u8]) -> Vec<u16> {
    read(message)
        .map(|message| message.queries.iter().map(|query| query.query_type().into()).collect())
        .unwrap_or_default()
}

/// The message written anew with an uncompressed first question, for one whose question name is
/// compressed; `None` where it can't be read.
pub fn uncompressed(message: &[u8]) -> Option<Vec<u8>> {
    read(message)?.to_vec().ok()
}

/// Reads a message, but not one that has no room for its questions: hickory takes the memory for
/// as many as the header claims, some MiB for a dozen octets.
fn read(message: &[u8]) -> Option<Message> {
    const SHORTEST_QUESTION: usize = 5;
    let &[q0, q1] = message.get(4..)?.first_chunk()?;
    let questions = usize::from(u16::from_be_bytes([q0, q1]));
    let room = message.len().saturating_sub(HEADER);
    (questions * SHORTEST_QUESTION <= room).then(|| Message::from_vec(message).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `questions` questions for the root by the header and `there` in fact.
    fn message(questions: u16, there: usize) -> Vec<u8> {
        let mut message = vec![0; HEADER];
        message[4..6].copy_from_slice(&questions.to_be_bytes());
        message.extend([0, 0, 1, 0, 1].repeat(there));
        message
    }

    #[test]
    fn questions_need_room() {
        assert_eq!(question_types(&message(2, 2)), [1, 1]);
        assert_eq!(question_types(&message(3, 2)), [0_u16; 0]);
        assert_eq!(question_types(&message(u16::MAX, 2)), [0_u16; 0]);
        assert!(read(&message(2, 2)).is_some());
        assert!(read(&message(3, 2)).is_none());
        assert!(read(&message(0, 0)[..5]).is_none());
    }
}
