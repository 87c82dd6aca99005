"""The same cloud told by BGP EVPN: gobgpd as VTEPs behind a route reflector, with and without RFC 4684."""
