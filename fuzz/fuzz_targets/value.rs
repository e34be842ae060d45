//! The value that the targets decode: all that a derived archive can hold.

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug), compare(PartialEq))]
pub struct Order {
    pub id: u64,
    pub side: Side,
    pub symbol: String,
    pub levels: Vec<(u32, i64)>,
    pub note: Option<String>,
    pub tags: Vec<String>,
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug), compare(PartialEq))]
pub enum Side {
    Buy,
    Sell { short: bool },
    Cross(String),
}
