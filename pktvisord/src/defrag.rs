//! placeholder until the merge
use pktvisor_common::packet::PacketMeta;
/// x
pub struct DefragLimits {
    /// x
    pub entries: usize,
    /// x
    pub bytes: usize,
    /// x
    pub age: i64,
}
/// x
pub struct Datagram<'a> {
    /// x
    pub meta: PacketMeta,
    /// x
    pub payload: &'a [u8],
    /// x
    pub time: i64,
    /// x
    pub whole: bool,
}
/// x
pub struct Defrag;
impl Defrag {
    /// x
    pub fn new(_: DefragLimits) -> Self {
        Defrag
    }
    /// x
    pub fn fragment(
        &mut self,
        _: &PacketMeta,
        _: &[u8],
        _: u32,
        _: i64,
        _: &mut dyn FnMut(Datagram<'_>),
    ) {
    }
    /// x
    pub fn advance(&mut self, _: i64, _: &mut dyn FnMut(Datagram<'_>)) {}
    /// x
    pub fn finish(&mut self, _: &mut dyn FnMut(Datagram<'_>)) {}
}
