"""The dashboard: pages for people, served by the API process from what it stores.

Pages are made on the server (Jinja2, charts as SVG); `static/dashboard.js` only makes them nicer to
use. Nothing here changes anything: the dashboard needs the scope `read` and no other. See
`docs/decisions/0022`.
"""
