"""Signing in at an OpenID Connect provider: the authorization code flow with PKCE.

Source: OpenID Connect Core 1.0, 3.1; RFC 7636; RFC 9700.
"""
