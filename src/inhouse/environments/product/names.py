"""Names that questions are made of."""

PEOPLE = (
    "Amira", "Bruno", "Chiara", "Dmitri", "Esther", "Farid", "Greta", "Hassan", "Ingrid", "Jonas", "Keiko", "Lucia",
    "Mateo", "Nadia", "Oskar", "Priya", "Quentin", "Rosa", "Samuel", "Tamara", "Umberto", "Vera", "Wendell", "Yusuf",
)  # fmt: skip
CITIES = (
    "Aarhus", "Bergen", "Cork", "Dresden", "Essen", "Faro", "Ghent", "Haifa", "Izmir", "Kyoto", "Lyon", "Malmo",
    "Nantes", "Osaka", "Porto", "Quito", "Riga", "Sofia", "Turin", "Utrecht",
)  # fmt: skip
PRODUCTS = (
    "lamps", "desks", "chairs", "kettles", "tents", "pumps", "drills", "scales", "clocks", "radios", "bicycles",
    "helmets", "printers", "routers", "blankets", "mugs",
)  # fmt: skip
COMPANIES = (
    "Alder Works", "Birch Supply", "Cedar Trade", "Dune Systems", "Elm Foods", "Fjord Lines", "Grove Energy",
    "Harbor Tools", "Iris Textiles", "Juniper Labs", "Kestrel Air", "Linden Paper",
)  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
REGIONS = ("North", "South", "East", "West")
COLOURS = ("red", "green", "blue", "black", "white", "yellow", "grey", "orange")
