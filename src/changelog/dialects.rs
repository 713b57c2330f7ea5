use syncd_parsers::Dialect;
pub fn by_name(_name: &str) -> Option<&'static dyn Dialect> {
    None
}
pub fn likely(_sample: &[u8]) -> Option<&'static dyn Dialect> {
    None
}
