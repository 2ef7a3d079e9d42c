"""Load generator: places calls over NG like a proxy, sends real speech in real time, and matches every packet."""
