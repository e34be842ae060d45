// Whether the page may read an answer of `url`: the first of its text, or the error.
async ({ url }) => {
  try {
    const { value } = await (await fetch(url)).body.getReader().read();
    return { text: new TextDecoder().decode(value) };
  } catch (error) {
    return { error: error.name };
  }
}
